"""What `geopera-server` can be told to do. Each command imports its work when it runs, so that --help is quick."""
# ruff: noqa: PLC0415

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from geopera_server.settings import Settings, SettingsRefused
from geopera_server.transports.cli.given import (
    Background,
    Data,
    DatabaseUrl,
    Host,
    LogLevel,
    Port,
    PublicUrl,
    settings_from,
)
from geopera_server.transports.cli.logs import log_to_stderr
from geopera_server.transports.cli.signals import Stopped
from geopera_server.transports.cli.trouble import Trouble

RUN = "Run a server"
LOOK_AFTER = "Look after a deployment"
LEARN = "Learn and develop"

commands = typer.Typer(
    name="geopera-server",
    help=(
        "A self-hostable Earth-observation platform: catalogue search, pricing, orders, credits and provenance.\n\n"
        "Start with: **geopera-server up --data ./data**\n\n"
        "Every option can also be given by the environment variable that stands beside it; a flag wins over the "
        "variable. **geopera-server settings** lists all variables, also those without a flag."
    ),
    rich_markup_mode="markdown",
    no_args_is_help=True,
    add_completion=False,
    # Its tracebacks show the values of local variables, and some of ours are secrets.
    pretty_exceptions_enable=False,
)
admin = typer.Typer(help="Set up and repair a deployment.", no_args_is_help=True)
commands.add_typer(admin, name="admin", rich_help_panel=LOOK_AFTER)


@commands.command(
    rich_help_panel=RUN, epilog="Example: **geopera-server up --data ./data --port 8000**", short_help="Serve and work."
)
def up(
    *,
    data: Data = None,
    port: Port = None,
    host: Host = None,
    database_url: DatabaseUrl = None,
    public_url: PublicUrl = None,
    background: Background = None,
    log_level: LogLevel = None,
) -> None:
    """Serve the platform and do its background work, from one data folder.

    Without a database address it starts a PostgreSQL of its own inside the data folder. Prints one line with its address
    once it answers; everything else it has to say goes to standard error. SIGTERM or Ctrl-C ends it in order, a second
    one at once.
    """
    settings = _settings(
        data_dir=data, port=port, host=host, database_url=database_url, public_url=public_url, background=background,
        log_level=log_level,
    )  # fmt: skip
    from geopera_server.transports.cli.process import serve

    serve(settings)


@commands.command(
    rich_help_panel=RUN,
    epilog="Example: **geopera-server demo --data ./data/demo --port 8000 --serve**",
    short_help="Walk through everything on real imagery.",
)
def demo(
    *,
    data: Data = None,
    port: Port = None,
    serve: Annotated[bool, typer.Option("--serve", help="Go on serving afterwards, until Ctrl-C.")] = False,
    log_level: LogLevel = None,
) -> None:
    """Search, price, order and receive real Sentinel-2 imagery from a server of its own, printing each call.

    The imagery comes with the installation and nothing is asked of the internet. Run again, it goes on with what is there.
    """
    settings = _settings(data_dir=data, port=port, log_level=log_level)
    if settings.env == "production":
        raise SettingsRefused("The demo makes accounts and data that no production deployment wants. Unset GEOPERA_ENV.")
    from geopera_server.transports.cli.process import demonstrate

    try:
        demonstrate(settings, stay=serve)
    except Stopped:
        raise typer.Exit(130) from None


@commands.command(
    rich_help_panel=RUN,
    epilog="Example: **GEOPERA_DATABASE_URL=postgresql://geopera@db/geopera geopera-server worker**",
    short_help="Work only, beside other servers.",
)
def worker(*, data: Data = None, database_url: DatabaseUrl = None, log_level: LogLevel = None) -> None:
    """Do background work only: deliveries, sealing of lineage, sweeping.

    For deployments of several processes over one PostgreSQL; start as many as you like. Give all processes the same
    GEOPERA_SECRET and GEOPERA_STORAGE_URL.
    """
    settings = _settings(data_dir=data, database_url=database_url, log_level=log_level, background=True)
    if settings.database_url is None:
        raise Trouble(
            "A worker needs GEOPERA_DATABASE_URL: the embedded PostgreSQL belongs to the one process that started it, and "
            "`geopera-server up` already does the background work there."
        )
    from geopera_server.transports.cli.process import work

    work(settings)


@commands.command(
    rich_help_panel=LOOK_AFTER,
    epilog="Example: **geopera-server migrate --database-url postgresql://geopera@db/geopera**",
    short_help="Bring the database to this version.",
)
def migrate(*, data: Data = None, database_url: DatabaseUrl = None, log_level: LogLevel = None) -> None:
    """Bring the database to the schema of this version, with its sources, price list and plans.

    `up` does the same by itself; run this first where several servers are updated one after another. Running it again
    changes nothing.
    """
    settings = _settings(data_dir=data, database_url=database_url, log_level=log_level)
    from geopera_server.transports.cli.upkeep import bring_up_to_date

    typer.echo(f"The database is at {bring_up_to_date(settings)}.")


@admin.command(
    epilog="Example: **geopera-server admin bootstrap --organization 'Acme Mapping' --email ops@acme.example**",
    short_help="Make the first operator and organization.",
)
def bootstrap(
    *,
    organization: Annotated[str, typer.Option(help="Name of the first organization.", metavar="NAME")],
    email: Annotated[str, typer.Option(help="Mail address of its owner, who is also an operator.", metavar="ADDRESS")],
    name: Annotated[str | None, typer.Option(help="How the operator is shown to others.", metavar="TEXT")] = None,
    password_file: Annotated[
        Path | None,
        typer.Option(
            help="File whose first line is the password; - reads standard input. Asked for otherwise.", metavar="FILE"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Add another operator though there is one.")] = False,
    data: Data = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Make the first operator and the first organization of a real deployment, with a project and an API key.

    Prints their ids and the key as NAME=VALUE lines. The key is shown this once and stored only as a digest. Stop a server
    on the same data folder first, unless it uses a PostgreSQL of its own.
    """
    settings = _settings(data_dir=data, database_url=database_url)
    from geopera_server.transports.cli import bootstrapping

    password = bootstrapping.password_from(password_file)
    made = bootstrapping.bootstrap(settings, organization=organization, email=email, password=password, name=name, force=force)
    for key, value in made.items():
        typer.echo(f"{key}={value}")
    typer.echo("Keep the key now: it is not shown again.", err=True)


@admin.command(
    "verify-ledger",
    epilog="Example: **geopera-server admin verify-ledger --database-url postgresql://geopera@db/geopera**",
    short_help="Add up everybody's credits once more.",
)
def verify_ledger(
    *,
    organization: Annotated[str | None, typer.Option(help="Look at this one only.", metavar="ID")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, the summary last.")] = False,
    data: Data = None,
    database_url: DatabaseUrl = None,
) -> None:
    """Work out every balance, hold, charge and budget from the ledger's entries, and name each figure that differs.

    It only reads, after bringing the schema to this version, and sees one moment: a server over the same PostgreSQL may be
    at work meanwhile, one with an embedded PostgreSQL in the same data folder is to be stopped first. Ends with exit code 0
    and one line when all is well, with exit code 1 and a line for each difference otherwise.
    """
    settings = _settings(data_dir=data, database_url=database_url)
    from geopera_server.transports.cli import verifying

    if not verifying.verify_ledger(settings, organization_id=organization, as_json=as_json):
        raise typer.Exit(1)


@commands.command(rich_help_panel=LEARN, epilog="Example: **geopera-server settings**", short_help="List all settings.")
def settings() -> None:
    """List every setting: its environment variable, default and meaning."""
    from geopera_server.transports.cli.upkeep import settings_table

    settings_table()


@commands.command(
    rich_help_panel=LEARN,
    epilog="Example: **geopera-server openapi --out openapi.json**",
    short_help="Print the interface's description.",
)
def openapi(
    *,
    admin: Annotated[bool, typer.Option("--admin", help="Include the operators' operations.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output otherwise.", metavar="FILE")] = None,
) -> None:
    """Print the OpenAPI document of this version; needs no database."""
    from geopera_server.transports.cli.upkeep import openapi_text

    text = openapi_text(operator=admin)
    if out is None:
        sys.stdout.write(text)
        return
    try:
        out.write_text(text)
    except OSError as error:
        raise Trouble(f"{out} cannot be written ({error.strerror}). Give --out another file.") from None


def _settings(**flags: object) -> Settings:
    settings = settings_from(**flags)
    log_to_stderr(settings.log_level)
    return settings
