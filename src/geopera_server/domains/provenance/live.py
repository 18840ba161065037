"""The present content of artifacts, asked of whichever domain owns them."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from geopera_server import domains
from geopera_server.db.pool import Connection

LiveState = Callable[[Connection, str, str], Awaitable[dict[str, Any] | None]]


@functools.cache
def live_states() -> Mapping[str, LiveState]:
    """Returns the readers that the domains' `lineage` modules declare as `artifact_states`, by kind of artifact.

    Each takes a connection, an organization and an id, and returns the content that a record's digest is made of. Raises
    ValueError when two domains claim one kind.
    """
    found: dict[str, LiveState] = {}
    for entry in pkgutil.walk_packages(domains.__path__, prefix=f"{domains.__name__}."):
        if entry.name.rpartition(".")[2] == "lineage":
            declared = importlib.import_module(entry.name).artifact_states
            if clashing := found.keys() & declared.keys():
                raise ValueError(f"{entry.name} declares {sorted(clashing)}, which another domain owns")
            found.update(declared)
    return found
