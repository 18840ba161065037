"""Log lines for whoever runs the server: on standard error, one line each, times in UTC."""

from __future__ import annotations

import logging
import time


def log_to_stderr(level: str) -> None:
    """Shows this server's lines from a level on, and of the libraries' only warnings."""
    formatter = logging.Formatter("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    # Says in many lines what our own say in one while the database is away.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    logging.getLogger("geopera_server").setLevel(level.upper())
