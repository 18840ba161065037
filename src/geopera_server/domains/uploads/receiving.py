"""Takes the bytes of one file into storage as they come, whole or in parts, and tells the session when they are there.

Every attempt writes an object of its own, and the session's row says which one is the file. So a broken connection leaves
nothing that anybody could take for the file, a repeated PUT replaces it in one step, and two at once cannot mix. Parts are
stored one by one, so a transfer goes on where it broke off, from whichever process answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import google_crc32c
import orjson

from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.granting import Grant
from geopera_server.domains.uploads.operations import receiving as steps
from geopera_server.domains.uploads.operations.receiving import Transfer, too_large
from geopera_server.domains.uploads.store import files
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, InvalidInput, OperationError
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import service
from geopera_server.ports.store import ObjectMissing
from geopera_server.values.ids import new_id

PIECE_BYTES = 16 * 1024 * 1024
"""A part is stored in pieces of this size; a connection that breaks loses no more than the one that was coming."""

ASKED_EVERY_BYTES = 256 * 1024 * 1024
"""After so many bytes of a file it is asked again whether the session is open and the quota has room for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """A file that is complete in storage."""

    file_name: str
    object_path: str
    size_bytes: int
    sha256: str
    crc32c: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Partial:
    """A file of which so many bytes have come."""

    received_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes from `start` to before `end` of a file of `total` bytes; None when the sender does not know that yet."""

    start: int
    end: int
    total: int | None


@dataclass(slots=True)
class _Measured:
    """Passes bytes on, measuring them; raises TooLarge as soon as there are more than may come.

    `still_welcome` is asked now and then, and raises what makes the rest of the bytes useless.
    """

    chunks: AsyncIterator[bytes]
    limit_bytes: int
    still_welcome: Callable[[int], Awaitable[object]]
    size_bytes: int = 0
    _asked_at: int = 0
    _sha256: Any = field(default_factory=hashlib.sha256)
    _crc32c: Any = field(default_factory=google_crc32c.Checksum)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self.chunks:
            self.size_bytes += len(chunk)
            if self.size_bytes > self.limit_bytes:
                raise too_large(self.limit_bytes)
            if self.size_bytes - self._asked_at >= ASKED_EVERY_BYTES:
                self._asked_at = self.size_bytes
                await self.still_welcome(self.size_bytes)
            self._sha256.update(chunk)
            self._crc32c.update(chunk)
            crash_point("upload-in-put")
            yield chunk

    def sums(self) -> dict[str, Any]:
        """Returns what the bytes that have passed come to."""
        return {
            "size_bytes": self.size_bytes,
            "sha256": self._sha256.hexdigest(),
            "crc32c": rules.crc32c_text(self._crc32c.digest()),
        }


@dataclass(slots=True)
class _UntilBroken:
    """Passes bytes on until they end, or what they come from breaks; then it keeps the error."""

    chunks: AsyncIterator[bytes]
    broken: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self.chunks:
                yield chunk
        except Exception as error:  # noqa: BLE001  (raised again by whoever has kept what came)
            self.broken = error


class Receiver:
    """Takes one file for whoever holds its address."""

    def __init__(self, kernel: Kernel, grant: Grant) -> None:
        self._kernel = kernel
        self._store = kernel.ports.store
        self._grant = grant
        self._about = {"upload_id": grant.upload_id, "file_id": grant.file_id}

    async def opened(self, *, expected_bytes: int | None = None) -> Transfer:
        """Returns where the file stands; raises OperationError when it cannot be taken, or not with so many bytes."""
        transfer: Transfer = await self._run(steps.open_transfer, {"expected_bytes": expected_bytes})
        if expected_bytes is not None and expected_bytes > transfer["limit_bytes"]:
            raise too_large(transfer["limit_bytes"])
        return transfer

    async def whole(self, transfer: Transfer, chunks: AsyncIterator[bytes], *, expected_bytes: int | None) -> Whole:
        """Stores a file that comes in one piece; raises OperationError, StoreFull, or what reading the bytes raises."""
        return await self._stored(transfer, chunks, expected_bytes=expected_bytes)

    async def part(self, transfer: Transfer, part: Part, chunks: AsyncIterator[bytes]) -> Whole | Partial:
        """Stores one part of a file, and the file when it was the last.

        A part that begins at 0 begins the file anew; of a later one, what has come before is passed over. One that leaves a
        gap is not taken: the answer says where to go on.
        """
        if part.start == 0:
            begun = await self._run(steps.begin, {"total_bytes": part.total})
            await self._forget(begun["replaced"])
            transfer = Transfer(**{
                **transfer, "transfer_id": begun["transfer_id"], "transfer_bytes": part.total, "received_bytes": 0,
            })  # fmt: skip
            crash_point("upload-begun")
        self._check(transfer, part)
        if part.start > transfer["received_bytes"]:
            return Partial(received_bytes=transfer["received_bytes"])
        received = await self._take(transfer, part, chunks)
        if received == part.total:
            return await self.joined(Transfer(**{**transfer, "received_bytes": received, "transfer_bytes": part.total}))
        return Partial(received_bytes=received)

    async def joined(self, transfer: Transfer) -> Whole:
        """Makes the file of its parts, which are all there.

        A client that lost patience may have it done twice at once; whoever is second finds the file complete.
        """
        async with self._kernel.pool.connection() as conn:
            parts = await files.parts_of(conn, self._grant.organization_id, str(transfer["transfer_id"]))
        try:
            return await self._stored(
                transfer, self._read(parts), expected_bytes=transfer["received_bytes"], transfer_id=transfer["transfer_id"]
            )
        except (ObjectMissing, Conflict):
            stands = await self.opened()
            if stands["transfer_id"] is not None or stands["size_bytes"] != transfer["received_bytes"]:
                raise steps.overtaken() from None
            return Whole(
                file_name=stands["file_name"],
                object_path=stands["object_path"],
                size_bytes=stands["size_bytes"],
                sha256=str(stands["sha256"]),
                crc32c=str(stands["crc32c"]),
            )

    @staticmethod
    def _check(transfer: Transfer, part: Part) -> None:
        known = transfer["transfer_bytes"]
        if transfer["transfer_id"] is None:
            raise Conflict("No transfer of this file in parts is under way. Begin one with the part that starts at byte 0.")
        if known is not None and part.total is not None and known != part.total:
            raise InvalidInput(
                f"The transfer was begun for a file of {known:,} bytes, not {part.total:,}. Begin anew at byte 0.",
                loc=("Content-Range",),
            )

    async def _take(self, transfer: Transfer, part: Part, chunks: AsyncIterator[bytes]) -> int:
        """Stores what is new of a part, piece by piece, and returns how much of the file has come.

        Of a connection that breaks, whatever came before is kept.
        """
        received, at = transfer["received_bytes"], part.start
        piece = bytearray()
        coming = _UntilBroken(chunks)
        async for chunk in coming:
            fresh = memoryview(chunk)[max(0, received + len(piece) - at) :]
            at += len(chunk)
            if at > part.end:
                raise InvalidInput("The part has more bytes than its Content-Range says.", loc=("Content-Range",))
            piece += fresh
            crash_point("upload-in-put")
            if len(piece) >= PIECE_BYTES:
                received = await self._keep(transfer, part, received, piece)
                piece = bytearray()
        if piece:
            received = await self._keep(transfer, part, received, piece)
        if coming.broken is not None:
            raise coming.broken
        if at < part.end:
            raise InvalidInput("The part has fewer bytes than its Content-Range says.", loc=("Content-Range",))
        return received

    async def _keep(self, transfer: Transfer, part: Part, start: int, piece: bytearray) -> int:
        if start + len(piece) > transfer["limit_bytes"]:
            raise too_large(transfer["limit_bytes"])
        path = f"{transfer['folder']}/parts/{transfer['transfer_id']}/{start:015d}-{new_id()}"
        await self._put(path, _once(piece), expected_bytes=len(piece))
        crash_point("upload-part-stored")
        told = await self._told(
            steps.part,
            {
                "transfer_id": transfer["transfer_id"], "start_byte": start, "size_bytes": len(piece), "path": path,
                "total_bytes": part.total,
            },
            path,
        )  # fmt: skip
        return int(told["received_bytes"])

    async def _stored(
        self,
        transfer: Transfer,
        chunks: AsyncIterator[bytes],
        *,
        expected_bytes: int | None,
        transfer_id: str | None = None,
    ) -> Whole:
        path = f"{transfer['folder']}/raw/{new_id()}/{rules.plain_name(transfer['file_name'])}"
        measured = _Measured(chunks, transfer["limit_bytes"], lambda size_bytes: self.opened(expected_bytes=size_bytes))
        await self._put(path, aiter(measured), expected_bytes=expected_bytes)
        crash_point("upload-put-stored")
        sums = measured.sums()
        told = await self._told(steps.stored, {"path": path, "transfer_id": transfer_id, **sums}, path)
        crash_point("upload-put-committed")
        await self._forget(told["replaced"])
        return Whole(file_name=transfer["file_name"], object_path=transfer["object_path"], **sums)

    async def _put(self, path: str, chunks: AsyncIterator[bytes | bytearray], *, expected_bytes: int | None) -> None:
        try:
            await self._store.put_stream(path, chunks, expected_bytes=expected_bytes)
        except OperationError:
            raise
        except Exception:
            # A session that ends takes along what is being written for it, which breaks the writer off in the store's own way.
            await self.opened()
            raise

    async def _told(self, step: Handler, given: Mapping[str, Any], path: str) -> Any:
        """Tells the session of a stored object; one that it does not take is removed again."""
        try:
            return await self._run(step, given)
        except OperationError:
            await self._store.delete(path)
            raise

    async def _run(self, step: Handler, given: Mapping[str, Any]) -> Any:
        principal = service(organization_id=self._grant.organization_id)
        call = Call(operation=operation_of(step), given={**self._about, **given}, principal=principal)
        return orjson.loads((await self._kernel.run(call)).body)

    async def _forget(self, paths: Iterable[str]) -> None:
        for path in paths:
            await self._store.delete(path)

    async def _read(self, parts: Iterable[Mapping[str, Any]]) -> AsyncIterator[bytes]:
        for each in parts:
            async for chunk in self._store.read(each["path"], 0, each["size_bytes"]):
                yield chunk


async def _once(data: bytearray) -> AsyncIterator[bytes | bytearray]:
    yield data
