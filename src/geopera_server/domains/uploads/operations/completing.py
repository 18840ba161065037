"""Making an item, or assets of an item, of the files of a session."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import shapely
from psycopg.types.json import Jsonb
from shapely.geometry import shape
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.items.access import require_collection_in, require_item_read, require_item_write
from geopera_server.domains.items.presenting import as_asset, as_item_response
from geopera_server.domains.items.registration import NewAsset, NewItem, attach_asset, register_item
from geopera_server.domains.items.shapes import Asset, ItemResponse
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.access import require_upload_write
from geopera_server.domains.uploads.closing import PROCESS
from geopera_server.domains.uploads.examining import Examined, Piece, UploadCompleteInput, examine
from geopera_server.domains.uploads.presenting import as_upload
from geopera_server.domains.uploads.shapes import Upload
from geopera_server.domains.uploads.store import files, sessions
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict
from geopera_server.kernel.geometry import to_geojson
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id

# What the item has columns for, and what only helps to read the file, is no property of its own.
_NOT_PROPERTIES = frozenset({
    "epsg", "variable", "datetime", "start_datetime", "end_datetime", "created", "updated", "title", "description", "gsd",
    "geometry", "bbox", "id", "collection", "assets", "links",
})  # fmt: skip


class UploadCompleted(TypedDict):
    """The session as it ended, and what it became; `id` and `status` are those of the session."""

    upload: Upload
    item: ItemResponse
    assets: list[Asset]
    id: str
    item_id: str
    status: str


@operation(
    "uploads.complete",
    effect="compute",
    scope="uploads:write",
    produces=("item",),
    free_form=True,
    idempotent=True,
    prepare=examine,
    example={
        "upload_id": "0192d3c4-0000-7000-8000-000000000000",
        "name": "Harbour survey",
        "datetime": "2024-06-12T10:10:00Z",
        "files": [],
        "user_metadata": {"epsg": 32632},
    },
)
async def complete(ctx: Context, given: UploadCompleteInput, found: Examined) -> UploadCompleted:
    """Makes an item of what was sent, after making sure that all of it came, can be read and has a place on Earth.

    Rasters that are no Cloud Optimized GeoTIFF become one afterwards, in the background; `uploads.get` tells when. Files that
    cannot be read or have no place leave the session in review: complete it again with `user_metadata: {"epsg": …}`, or send
    better files. With several rasters, or pairs of a picture and its world file, each becomes an asset of its own.
    """
    upload = await require_upload_write(ctx.conn, ctx.principal, given.upload_id, new_data=True)
    rules.require_open(upload)
    ctx.touch("upload", upload["id"])
    known = await files.files_of(ctx.conn, upload["organization_id"], upload["id"])
    if {file["id"]: file["stored_path"] for file in known} != found.paths:
        raise Conflict("A file was sent anew while the upload was being completed. Complete it again.", code="resource_busy")
    if upload["target_item_id"] is None:
        item, wanted, assets = await _as_new_item(ctx, upload, given, found)
    else:
        item, wanted, assets = await _as_assets(ctx, upload, given, found)
    for each, asset in zip(wanted, assets, strict=True):
        await files.set_asset(ctx.conn, upload["organization_id"], each.file_ids, asset["id"])
    row = await _end(ctx, upload, given, found, item, known)
    ctx.enqueue(PROCESS, upload["id"], {"item_ids": [item["id"]], **found.given}, organization_id=upload["organization_id"])
    ctx.emit("upload.completed", ("upload", row["id"]), as_upload(row), project_id=row["project_id"])
    crash_point("upload-complete-before-commit")
    return UploadCompleted(
        upload=as_upload(row),
        item=as_item_response(item),
        assets=[as_asset(asset) for asset in assets],
        id=row["id"],
        item_id=item["id"],
        status=row["status"],
    )


async def _end(ctx: Context, upload: Row, given: UploadCompleteInput, found: Examined, item: Row, known: Sequence[Row]) -> Row:
    detected = {"processing": "queued", "files": [piece.detected for piece in found.pieces]}
    return await sessions.complete(
        ctx.conn,
        {
            "organization_id": upload["organization_id"],
            "id": upload["id"],
            "item_id": item["id"],
            "asset_key": upload["asset_key"],
            "crc32c": known[0]["crc32c"] if len(known) == 1 else None,
            "user_metadata": Jsonb(given.user_metadata),
            "detected": Jsonb(detected),
            "bytes": sum(file["size_bytes"] for file in known),
            "at": ctx.now,
        },
    )


async def _make_room(ctx: Context, upload: Row, found: Examined) -> None:
    """Gives back what was reserved, for what is really there; raises PaymentRequired where that is more than may be stored."""
    real_bytes = sum(piece.size_bytes for piece in found.pieces)
    await require_storage(ctx.conn, upload["organization_id"], real_bytes - upload["reserved_bytes"])
    await sessions.set_reserved(ctx.conn, upload["organization_id"], upload["id"], 0)


@dataclass(frozen=True)
class _Wanted:
    """An asset to be, and the files that become it."""

    file_ids: tuple[str, ...]
    asset: NewAsset


async def _as_new_item(
    ctx: Context, upload: Row, given: UploadCompleteInput, found: Examined
) -> tuple[Row, list[_Wanted], list[Row]]:
    collection_id = given.collection_id or upload["target_collection_id"]
    if collection_id is not None:
        await require_collection_in(ctx.conn, upload["project_id"], collection_id)
    wanted = _wanted(upload, given, found.pieces, taken=frozenset())
    await require_room(ctx.conn, upload["organization_id"], "max_item_assets", len(wanted) - 1)
    await _make_room(ctx, upload, found)
    at, origin = _moment(ctx, found)
    new = NewItem(
        project_id=upload["project_id"],
        collection_id=collection_id,
        stac_id=new_id(),
        type=given.type or f"user_{found.pieces[0].kind}",
        name=given.name or found.pieces[0].stem,
        description=given.description,
        datetime=at,
        geometry=_footprint(found.pieces),
        gsd=min((piece.gsd for piece in found.pieces if piece.gsd is not None), default=None),
        properties={**_properties(given.user_metadata), "geopera:datetime_from": origin},
        upload_id=upload["id"],
        created_by=upload["created_by"],
    )
    item = await register_item(ctx, new, [each.asset for each in wanted], parents=[("upload", upload["id"])])
    made = {row["key"]: row for row in await files.assets_of_item(ctx.conn, upload["organization_id"], item["id"])}
    return item, wanted, [made[each.asset.key] for each in wanted]


async def _as_assets(
    ctx: Context, upload: Row, given: UploadCompleteInput, found: Examined
) -> tuple[Row, list[_Wanted], list[Row]]:
    """Adds the files to the item that the session was begun for; the item itself stays what it is."""
    item = await require_item_write(ctx.conn, ctx.principal, upload["target_item_id"], new_data=True)
    taken = {row["key"] for row in await files.assets_of_item(ctx.conn, upload["organization_id"], item["id"])}
    wanted = _wanted(upload, given, found.pieces, taken=taken)
    await _make_room(ctx, upload, found)
    made = [await attach_asset(ctx, item, each.asset) for each in wanted]
    return await require_item_read(ctx.conn, ctx.principal, item["id"]), wanted, made


def _wanted(upload: Row, given: UploadCompleteInput, pieces: Sequence[Piece], *, taken: AbstractSet[str]) -> list[_Wanted]:
    wanted = []
    for key, piece in zip(_keys(upload, pieces, taken), pieces, strict=True):
        names = given.band_names if piece.kind == "raster" else None
        fields = {**piece.asset, **({} if names is None else {"band_names": names})}
        wanted.append(_Wanted(piece.file_ids, NewAsset(key=key, **fields)))
        for file_id, companion in piece.companions:
            suffix = companion["file_name"].removeprefix(piece.stem)
            wanted.append(_Wanted((file_id,), NewAsset(key=f"{key}{suffix}", **companion)))
    return wanted


def _keys(upload: Row, pieces: Sequence[Piece], taken: AbstractSet[str]) -> list[str]:
    """Returns a key for each piece: the one that was wished for, else "data", or where there are several their names."""
    wished = [piece.stem for piece in pieces] if len(pieces) > 1 else ["data"]
    if upload["asset_key"] is not None:
        # A key that was asked for by name is not changed: it may be taken, and that is then said.
        return [upload["asset_key"] if len(pieces) == 1 else f"{upload['asset_key']}-{stem}" for stem in wished]
    keys: list[str] = []
    for wish in wished:
        spelled = (wish if number == 1 else f"{wish}-{number}" for number in itertools.count(1))
        keys.append(next(key for key in spelled if key not in taken and key not in keys))
    return keys


def _moment(ctx: Context, found: Examined) -> tuple[Any, str]:
    """Returns the time of the item, and whether it was given, is the file's own, or only that of the upload."""
    if found.at is not None:
        return found.at, "given"
    acquired = [piece.acquired for piece in found.pieces if piece.acquired is not None]
    return (min(acquired), "file") if acquired else (ctx.now, "upload")


def _properties(user_metadata: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in user_metadata.items() if name not in _NOT_PROPERTIES}


def _footprint(pieces: Sequence[Piece]) -> dict[str, Any]:
    if len(pieces) == 1:
        return pieces[0].footprint
    return to_geojson(shapely.unary_union([shape(piece.footprint) for piece in pieces]))
