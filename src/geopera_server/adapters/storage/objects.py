"""Objects in a local folder, S3, GCS or Azure, through one library."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import shutil
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from geopera_server.ports.store import ObjectMissing, StoredObject, StoreFull

CHUNK_BYTES = 1024 * 1024
LISTED_AT_ONCE = 1_000
PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 2
# S3 takes 10,000 parts of one object.
MOST_PARTS = 9_000
_FULL = (errno.ENOSPC, errno.EDQUOT)
_UNFINISHED = re.compile(r"#\d+$")


class Objects:
    """An object store behind obstore."""

    def __init__(self, store: Any) -> None:
        self._store = store

    async def put_file(self, path: str, source: Path) -> int:
        """Stores a local file under the path and returns its size in bytes; raises StoreFull when there is no room."""
        try:
            await obstore.put_async(self._store, path, source)
        except (OSError, obstore.exceptions.BaseError) as error:
            if _is_full(error):
                raise StoreFull("The object store has no room left.") from error
            raise
        return await self.size(path)

    async def put_stream(
        self, path: str, chunks: AsyncIterator[bytes | bytearray], *, expected_bytes: int | None = None
    ) -> int:
        """Stores what the iterator yields under the path, whole or not at all, and returns its size in bytes.

        A few pieces of it are held in memory; their size follows from how much is expected. Raises StoreFull when there is no
        room, and whatever the iterator raises.
        """
        counted = _Counted(chunks)
        part_bytes = max(PART_BYTES, -(-(expected_bytes or 0) // MOST_PARTS))
        try:
            await obstore.put_async(self._store, path, counted, chunk_size=part_bytes, max_concurrency=PARTS_AT_ONCE)
        except (OSError, obstore.exceptions.BaseError) as error:
            if counted.error is None and _is_full(error):
                raise StoreFull("The object store has no room left.") from error
            raise
        return counted.size_bytes

    async def copy(self, source: str, path: str) -> None:
        """Stores an object's bytes once more under another path; raises ObjectMissing, and StoreFull when there is no room."""
        try:
            await obstore.copy_async(self._store, source, path)
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise ObjectMissing(source) from error
        except (OSError, obstore.exceptions.BaseError) as error:
            if _is_full(error):
                raise StoreFull("The object store has no room left.") from error
            raise

    async def size(self, path: str) -> int:
        """Returns the size in bytes; raises ObjectMissing."""
        try:
            return int((await obstore.head_async(self._store, path))["size"])
        except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
            raise ObjectMissing(path) from error

    async def read(self, path: str, start: int, end: int) -> AsyncIterator[bytes]:
        """Yields the bytes from start up to, not including, end; raises ObjectMissing."""
        for offset in range(start, end, CHUNK_BYTES):
            try:
                chunk = await obstore.get_range_async(self._store, path, start=offset, end=min(end, offset + CHUNK_BYTES))
            except (FileNotFoundError, obstore.exceptions.NotFoundError) as error:
                raise ObjectMissing(path) from error
            yield bytes(chunk)

    async def fetch(self, path: str, destination: Path) -> None:
        """Makes the object's bytes a local file, which must not be written to; raises ObjectMissing or OSError."""
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(_link_or_copy, await self.address(path, expires_in_s=0), destination)
            return
        size = await self.size(path)
        with destination.open("xb") as file:
            async for chunk in self.read(path, 0, size):
                await asyncio.to_thread(file.write, chunk)

    async def list(self, folder: str) -> AsyncIterator[StoredObject]:
        """Yields every object below a folder, in any order."""
        async for chunk in obstore.list(self._store, folder, chunk_size=LISTED_AT_ONCE):
            for found in chunk:
                yield StoredObject(found["path"], int(found["size"]), found["last_modified"])

    async def folders(self, folder: str) -> tuple[str, ...]:
        """Returns the names of the folders directly below a folder."""
        listed = await obstore.list_with_delimiter_async(self._store, folder)
        return tuple(sorted(prefix.rstrip("/").rpartition("/")[2] for prefix in listed["common_prefixes"]))

    async def address(self, path: str, *, expires_in_s: int) -> str:
        """Returns where a raster reader of this process finds the object: an absolute file path, or a signed https address."""
        if isinstance(self._store, LocalStore):
            return str(Path(self._store.prefix or "/") / path)
        return str(await obstore.sign_async(self._store, "GET", path, timedelta(seconds=expires_in_s)))

    async def delete(self, path: str) -> None:
        """Removes the object; removing what is not there is no error."""
        try:
            await obstore.delete_async(self._store, path)
        except (FileNotFoundError, obstore.exceptions.NotFoundError):
            return

    async def delete_folder(self, folder: str, *, keep: Collection[str] = ()) -> int:
        """Removes every object below a folder but those to keep, with what broken-off writes left there; returns how many."""
        gone = [found.path async for found in self.list(folder) if found.path not in keep]
        for start in range(0, len(gone), LISTED_AT_ONCE):
            await obstore.delete_async(self._store, gone[start : start + LISTED_AT_ONCE])
        if isinstance(self._store, LocalStore):
            await asyncio.to_thread(_sweep, Path(await self.address(folder, expires_in_s=0)))
        return len(gone)


class _Counted:
    """An iterator of bytes that keeps how many it gave, and what it ended with."""

    def __init__(self, chunks: AsyncIterator[bytes | bytearray]) -> None:
        self._chunks = chunks
        self.size_bytes = 0
        self.error: BaseException | None = None

    def __aiter__(self) -> _Counted:
        return self

    async def __anext__(self) -> bytes | bytearray:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.error = error
            raise
        self.size_bytes += len(chunk)
        return chunk


def _link_or_copy(source: str, destination: Path) -> None:
    try:
        os.link(source, destination)
    except FileNotFoundError as error:
        raise ObjectMissing(source) from error
    except OSError:
        # Another file system, or one without links.
        shutil.copyfile(source, destination)


def _sweep(folder: Path) -> None:
    """Removes unfinished files, which killed writers leave beside the object as `name#number`, and empty folders."""
    for place, _, names in os.walk(folder, topdown=False):
        for name in filter(_UNFINISHED.search, names):
            Path(place, name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            Path(place).rmdir()


def _is_full(error: BaseException) -> bool:
    # The library passes on what the system said as text only.
    number = getattr(error, "errno", None)
    return number in _FULL or "No space left on device" in str(error) or "os error 28" in str(error)


def local_objects(folder: Path) -> Objects:
    """Returns a store in a local folder, made when it is missing and readable by its owner only."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)  # noqa: PTH101
    return Objects(LocalStore(prefix=folder))


def objects_at(url: str) -> Objects:
    """Returns the store at an s3://, gs://, az:// or file:// address; credentials come from the environment."""
    return Objects(from_url(url))
