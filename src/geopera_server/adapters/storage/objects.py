"""Objects in a local folder, S3, GCS or Azure, through one library."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import obstore
from obstore.store import LocalStore, from_url

from geopera_server.ports.store import ObjectMissing, StoredObject, StoreFull

CHUNK_BYTES = 1024 * 1024
LISTED_AT_ONCE = 1_000
_FULL = (errno.ENOSPC, errno.EDQUOT)


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
