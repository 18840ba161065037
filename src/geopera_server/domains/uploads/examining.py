"""Looks at what has come before it becomes an item: that it is all there and unhurt, what it is, and where on Earth it lies."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime as Time  # noqa: N812  (a field has that name)
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items.access import require_collection_in
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import require_upload_read
from geopera_server.domains.uploads.describing import as_companion, as_detected, as_it_came, footprint_of
from geopera_server.domains.uploads.operations.stepping import note_step
from geopera_server.domains.uploads.store import files
from geopera_server.domains.uploads.unpacking import brought, inspected, loaded, workplace
from geopera_server.kernel.context import Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, InvalidInput, Unavailable
from geopera_server.kernel.geometry import read_time
from geopera_server.kernel.principal import service
from geopera_server.ports.store import ObjectMissing

logger = logging.getLogger(__name__)


class CompletedFile(BaseModel):
    """A file as the client knows it; CRC32C in base64 or eight hexadecimal digits."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    object_path: str
    checksum_crc32c: str | None = Field(None, max_length=64)


class UploadCompleteInput(BaseModel):
    """What is to become of the files that were sent, and what the client knows about them."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    upload_id: str
    name: str | None = Field(None, min_length=1, max_length=500)
    description: str | None = Field(None, max_length=10_000)
    type: Literal["user_raster", "user_vector"] | None = None
    collection_id: str | None = None
    datetime: str | None = None
    files: list[CompletedFile] | None = Field(None, max_length=rules.MAX_FILES)
    user_metadata: dict[str, Any] = Field(default_factory=dict)
    band_names: list[str] | None = Field(None, max_length=2_000)

    @field_validator("user_metadata", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return {} if value is None else value


@dataclass(frozen=True, kw_only=True)
class Piece:
    """One asset to be: the files that make it, the one with the data, and what is known of it.

    `companions` are files that a vector cannot do without, which become assets beside it; those of a raster become part of it.
    """

    file_ids: tuple[str, ...]
    stem: str
    kind: Literal["raster", "vector"]
    asset: Mapping[str, Any]
    companions: tuple[tuple[str, Mapping[str, Any]], ...]
    footprint: dict[str, Any]
    gsd: float | None
    acquired: Time | None
    detected: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        return sum(asset["file_size_bytes"] for asset in (self.asset, *(asset for _, asset in self.companions)))


@dataclass(frozen=True, kw_only=True)
class Examined:
    """What a session's files have been found to be; `paths` are those that were looked at, by file."""

    paths: Mapping[str, str]
    pieces: Sequence[Piece]
    given: Mapping[str, Any]
    at: Time | None


async def examine(outside: Outside, given: UploadCompleteInput) -> Examined:
    """Returns what the files of an open session are.

    Raises NotFound, Denied or Conflict as the session stands, and InvalidInput for files that cannot be taken in; the session
    is then in review, and may be completed again with what was missing.
    """
    async with outside.connection() as conn:
        upload = await require_upload_read(conn, outside.principal, given.upload_id)
        project_id = await require_project_write(conn, outside.principal, upload["project_id"], new_data=True)
        if given.collection_id is not None:
            await require_collection_in(conn, project_id, given.collection_id)
        known = await files.files_of(conn, upload["organization_id"], upload["id"])
    rules.require_open(upload)
    hints = _hints(given)
    at = None if given.datetime is None else read_time(given.datetime, loc=("datetime",))
    await _require_all(outside, upload, known)
    _check_sums(upload, known, given.files or ())
    await _note(outside, upload, status="detecting")
    pieces = await _pieces(outside, upload, known, hints)
    _check_given(given, pieces)
    crash_point("upload-examined")
    return Examined(paths={file["id"]: file["stored_path"] for file in known}, pieces=pieces, given=hints, at=at)


def _hints(given: UploadCompleteInput) -> dict[str, Any]:
    """Returns what helps to read files that do not say it themselves: epsg, as a number or EPSG:number, and variable."""
    hints: dict[str, Any] = {}
    epsg = given.user_metadata.get("epsg")
    if epsg is not None:
        digits = str(epsg).upper().removeprefix("EPSG:").strip()
        if isinstance(epsg, bool) or not (digits.isascii() and digits.isdigit() and 1024 <= int(digits[:7]) <= 999_999):
            raise InvalidInput("epsg is the number of a reference system, like 32632.", loc=("user_metadata", "epsg"))
        hints["epsg"] = int(digits)
    variable = given.user_metadata.get("variable")
    if variable is not None:
        hints["variable"] = str(variable)
    return hints


async def _require_all(outside: Outside, upload: Row, known: Sequence[Row]) -> None:
    """Raises Conflict unless every file that was announced is in storage with the size that came."""
    missing = [file["file_name"] for file in known if file["stored_path"] is None]
    for file in known:
        if file["stored_path"] is None:
            continue
        try:
            size = await outside.ports.store.size(file["stored_path"])
        except ObjectMissing:
            size = -1
        if size != file["size_bytes"]:
            missing.append(file["file_name"])
    if missing:
        raise Conflict(
            f"These files have not come completely: {', '.join(missing)}. Send them to an address of uploads.signed_url first.",
            code="illegal_state",
        )
    if len(known) < upload["file_count"]:
        raise Conflict(
            f"The upload was begun for {upload['file_count']} files, and {len(known)} have come. Send the others first.",
            code="illegal_state",
        )


def _check_sums(upload: Row, known: Sequence[Row], claimed: Sequence[CompletedFile]) -> None:
    by_path = {rules.object_path(upload, file["file_name"]): file for file in known}
    for number, claim in enumerate(claimed):
        file = by_path.get(claim.object_path)
        if file is None:
            raise Conflict(f"No file has come for {claim.object_path}. Send it first.", code="illegal_state")
        if claim.checksum_crc32c is not None and not rules.same_crc32c(file["crc32c"], claim.checksum_crc32c):
            raise InvalidInput(
                f"{file['file_name']} has the CRC32C {file['crc32c']} as it came, not {claim.checksum_crc32c}. Send it again.",
                loc=("files", number, "checksum_crc32c"),
            )


async def _pieces(outside: Outside, upload: Row, known: Sequence[Row], hints: Mapping[str, Any]) -> list[Piece]:
    """Returns what the files are together, or where they are several things, what each of those is."""
    await loaded()
    from geopera_server.raster.errors import WriteFailed  # noqa: PLC0415
    from geopera_server.raster.ingest.refusals import IngestRefused  # noqa: PLC0415

    try:
        async with workplace(outside.ports.scratch) as scratch:
            paths = await brought(outside.ports.store, known, scratch / "in")
            return await _Looking(upload, known, paths, hints, scratch).at_all()
    except ObjectMissing as error:
        raise _replaced() from error
    except IngestRefused as error:
        await _note(outside, upload, status="reviewing", error_message=error.reason, error_step="detecting")
        raise InvalidInput(error.reason, loc=("upload_id",), reason=error.code) from error
    except (OSError, WriteFailed) as error:
        logger.warning("there is no place to look at upload %s", upload["id"], exc_info=error)
        raise Unavailable(
            "The server has no room to look at the files now. They are kept: complete the upload again later.",
            code="worker_unavailable",
            retry_after_s=300,
        ) from error


@dataclass(frozen=True)
class _Looking:
    """The files of a session where they can be looked at."""

    upload: Row
    known: Sequence[Row]
    paths: Sequence[Path]
    hints: Mapping[str, Any]
    scratch: Path

    async def at_all(self) -> list[Piece]:
        """Returns what all files are together, or where they are several things, what each group of them is."""
        from geopera_server.raster.ingest.refusals import Ambiguous  # noqa: PLC0415

        names = [file["file_name"] for file in self.known]
        try:
            return [await self.at(names)]
        except Ambiguous:
            groups = rules.grouped(names)
            if len(groups) == 1:
                raise
            return [await self.at(group) for group in groups]

    async def at(self, names: Sequence[str]) -> Piece:
        """Returns what these files are together; raises IngestRefused."""
        found = await inspected(
            [path for path in self.paths if path.name in names],
            given=self.hints,
            is_categorical=self.upload["is_categorical"],
            scratch=self.scratch,
        )
        group = [file for file in self.known if file["file_name"] in names]
        main = next(file for file in group if file["file_name"] == found.main.name)
        others = [] if found.kind == "raster" else [file for file in group if file is not main]
        return Piece(
            file_ids=tuple(file["id"] for file in group if file not in others),
            stem=PurePosixPath(main["file_name"]).stem,
            kind=found.kind,
            asset=as_it_came(found, main),
            companions=tuple((file["id"], as_companion(file)) for file in others),
            footprint=footprint_of(found),
            gsd=None if found.info is None else found.info.gsd_m,
            acquired=found.acquired,
            detected=as_detected(found, main),
        )


def _check_given(given: UploadCompleteInput, pieces: Sequence[Piece]) -> None:
    """Raises InvalidInput for a type that the files are not of, and for band names that do not fit them."""
    kinds = {f"user_{piece.kind}" for piece in pieces}
    if given.type is not None and given.type not in kinds:
        raise InvalidInput(f"The files are {' and '.join(sorted(kinds))}. Leave type out, or name that.", loc=("type",))
    if given.band_names is None:
        return
    names = given.band_names
    rasters = [piece for piece in pieces if piece.kind == "raster"]
    if len(rasters) != 1:
        raise InvalidInput("band_names are for uploads with one raster. Set them per asset afterwards.", loc=("band_names",))
    count = rasters[0].asset["band_count"]
    if len(names) != count:
        raise InvalidInput(f"The raster has {count} bands, and {len(names)} names were given.", loc=("band_names",))
    if len(set(names)) != len(names) or not all(1 <= len(name) <= 100 for name in names):
        raise InvalidInput("Every band has a name of its own, of 1 to 100 characters.", loc=("band_names",))


def _replaced() -> Conflict:
    return Conflict("A file was sent anew while the upload was being completed. Complete it again.", code="resource_busy")


async def _note(outside: Outside, upload: Row, **step: Any) -> None:
    await outside.run(note_step, {"upload_id": upload["id"], **step}, service(organization_id=upload["organization_id"]))
