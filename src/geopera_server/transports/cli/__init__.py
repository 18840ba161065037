"""The `geopera-server` command."""

from __future__ import annotations

import sys

from geopera_server.transports.cli.commands import commands
from geopera_server.transports.cli.signals import Stopped


def main() -> None:
    """Runs the command line; expected troubles end it with one line on standard error and exit code 2."""
    try:
        commands()
    except Stopped:
        sys.exit(0)
    except Exception as error:
        from geopera_server.transports.cli.explaining import explanation_of  # noqa: PLC0415  (wanted only here)

        if (explanation := explanation_of(error)) is None:
            raise
        sys.stderr.write(f"geopera-server: {explanation}\n")
        sys.exit(2)
