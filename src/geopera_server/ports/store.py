"""Where delivered bytes live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol


class ObjectMissing(Exception):
    """There is no object at that path."""


class StoreFull(Exception):
    """The store has no room for the object; nothing of it is left behind."""


class ObjectStore(Protocol):
    """Holds immutable objects under paths; an object is there whole or not at all."""

    async def put_file(self, path: str, source: Path) -> int:
        """Stores a local file under the path and returns its size in bytes; raises StoreFull when there is no room."""
        ...

    async def size(self, path: str) -> int:
        """Returns the size in bytes; raises ObjectMissing."""
        ...

    def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields the bytes from start up to, not including, end; raises ObjectMissing."""
        ...

    async def delete(self, path: str) -> None:
        """Removes the object; removing what is not there is no error."""
        ...
