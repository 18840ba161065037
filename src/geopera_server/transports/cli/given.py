"""Command-line options that stand for settings: names, meanings and defaults come from the settings themselves."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from geopera_server.settings import Settings
from geopera_server.transports.cli.trouble import Trouble


def variable_of(name: str) -> str:
    """Returns the environment variable of a setting."""
    return f"GEOPERA_{name.upper()}"


def default_of(name: str) -> str:
    """Returns a setting's default as a person would write it; empty for none."""
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    return "" if default in (None, [], {}) else str(default).lower() if isinstance(default, bool) else str(default)


def _option(name: str, *flags: str, metavar: str | None = None) -> Any:
    meaning = str(Settings.model_fields[name].description)
    default = f" (default {default_of(name)})" if default_of(name) else ""
    return typer.Option(
        *flags,
        envvar=variable_of(name),
        help=f"{meaning[0].upper()}{meaning[1:]}{default}.",
        show_default=False,
        metavar=metavar,
    )


Data = Annotated[Path | None, _option("data_dir", "--data", metavar="DIR")]
DatabaseUrl = Annotated[str | None, _option("database_url", "--database-url", metavar="URL")]
Host = Annotated[str | None, _option("host", "--host", metavar="ADDRESS")]
Port = Annotated[int | None, _option("port", "--port", metavar="N")]
PublicUrl = Annotated[str | None, _option("public_url", "--public-url", metavar="URL")]
Background = Annotated[bool | None, _option("background", "--background/--no-background")]
LogLevel = Annotated[str | None, _option("log_level", "--log-level", metavar="LEVEL")]


def settings_from(**flags: Any) -> Settings:
    """Returns the settings of the environment with the given flags over them; None means not given.

    Raises SettingsRefused or Trouble for what no command could work with.
    """
    settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    if settings.database_url is None or settings.storage_url is None or settings.secret is None:
        _require_folder(settings.data_dir)
    settings.master_secret()
    return settings


def _require_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise Trouble(
            f"The data folder {folder} cannot be written ({error.strerror}). "
            "Choose another with --data, or let this user write there."
        ) from None
