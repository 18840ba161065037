"""Where delivered bytes live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol


class ObjectMissing(Exception):
    """There is no object at that path."""


class StoreFull(Exception):
    """The store has no room for the object; nothing of it is left behind."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as a listing tells of it."""

    path: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Holds immutable objects under paths; an object is there whole or not at all."""

    async def put_file(self, path: str, source: Path) -> int:
        """Stores a local file under the path and returns its size in bytes; raises StoreFull when there is no room."""
        ...

    async def put_stream(
        self, path: str, chunks: AsyncIterator[bytes | bytearray], *, expected_bytes: int | None = None
    ) -> int:
        """Stores what the iterator yields under the path, whole or not at all, and returns its size in bytes.

        A few pieces of it are held in memory; their size follows from how much is expected. Raises StoreFull when there is no
        room, and whatever the iterator raises.
        """
        ...

    async def copy(self, source: str, path: str) -> None:
        """Stores an object's bytes once more under another path; raises ObjectMissing, and StoreFull when there is no room."""
        ...

    async def size(self, path: str) -> int:
        """Returns the size in bytes; raises ObjectMissing."""
        ...

    def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields the bytes from start up to, not including, end; raises ObjectMissing."""
        ...

    async def fetch(self, path: str, destination: Path) -> None:
        """Makes the object's bytes a local file, which must not be written to; raises ObjectMissing or OSError."""
        ...

    def list(self, folder: str) -> AsyncIterator[StoredObject]:
        """Yields every object below a folder, in any order."""
        ...

    async def folders(self, folder: str) -> tuple[str, ...]:
        """Returns the names of the folders directly below a folder."""
        ...

    async def address(self, path: str, *, expires_in_s: int) -> str:
        """Returns where a raster reader of this process finds the object: an absolute file path, or a signed https address."""
        ...

    async def delete(self, path: str) -> None:
        """Removes the object; removing what is not there is no error."""
        ...

    async def delete_folder(self, folder: str, *, keep: Collection[str] = ()) -> int:
        """Removes every object below a folder but those to keep, with what broken-off writes left there; returns how many."""
        ...
