"""The rows of a session's files and of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.db.pool import Connection, Row


async def files_of(conn: Connection, organization_id: str, upload_id: str) -> list[Row]:
    """A session's files in the order in which they were announced."""
    cursor = await conn.execute(
        "SELECT * FROM upload_file WHERE organization_id = %s AND upload_id = %s ORDER BY id", (organization_id, upload_id)
    )
    return await cursor.fetchall()


async def save_file(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Announces a file of a session; one of that name gets the content type."""
    cursor = await conn.execute(
        "INSERT INTO upload_file AS f (id, organization_id, upload_id, file_name, content_type, created_at)"
        " VALUES (%(id)s, %(organization_id)s, %(upload_id)s, %(file_name)s, %(content_type)s, %(at)s)"
        " ON CONFLICT (upload_id, file_name) DO UPDATE SET content_type = EXCLUDED.content_type RETURNING f.*",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def begin_transfer(
    conn: Connection, organization_id: str, file_id: str, *, transfer_id: str, total_bytes: int | None
) -> None:
    """Begins to take a file in parts; what is stored of it stays until all parts are there."""
    await conn.execute(
        "UPDATE upload_file SET transfer_id = %s, transfer_bytes = %s, received_bytes = 0"
        " WHERE organization_id = %s AND id = %s",
        (transfer_id, total_bytes, organization_id, file_id),
    )


async def add_part(conn: Connection, row: Mapping[str, Any]) -> bool:
    """Adds the next part of the transfer under way; False when it is not the next one any more."""
    cursor = await conn.execute(
        "UPDATE upload_file SET received_bytes = received_bytes + %(size_bytes)s,"
        " transfer_bytes = coalesce(%(total_bytes)s, transfer_bytes)"
        " WHERE organization_id = %(organization_id)s AND id = %(file_id)s AND transfer_id = %(transfer_id)s"
        " AND received_bytes = %(start_byte)s",
        row,
    )
    if cursor.rowcount == 0:
        return False
    await conn.execute(
        "INSERT INTO upload_part (transfer_id, start_byte, organization_id, file_id, size_bytes, path) VALUES"
        " (%(transfer_id)s, %(start_byte)s, %(organization_id)s, %(file_id)s, %(size_bytes)s, %(path)s)",
        row,
    )
    return True


async def parts_of(conn: Connection, organization_id: str, transfer_id: str) -> list[Row]:
    """The parts of a transfer, first to last."""
    cursor = await conn.execute(
        "SELECT path, start_byte, size_bytes FROM upload_part WHERE organization_id = %s AND transfer_id = %s"
        " ORDER BY start_byte",
        (organization_id, transfer_id),
    )
    return await cursor.fetchall()


async def forget_parts(conn: Connection, organization_id: str, file_id: str) -> list[str]:
    """Removes the rows of a file's parts, and returns where the parts lie."""
    cursor = await conn.execute(
        "DELETE FROM upload_part WHERE organization_id = %s AND file_id = %s RETURNING path", (organization_id, file_id)
    )
    return [row["path"] for row in await cursor.fetchall()]


async def set_stored(conn: Connection, row: Mapping[str, Any]) -> None:
    """Makes what was stored the file, in place of what it was; a transfer in parts is over."""
    await conn.execute(
        "UPDATE upload_file SET stored_path = %(path)s, size_bytes = %(size_bytes)s, sha256 = %(sha256)s, crc32c = %(crc32c)s,"
        " received_at = %(at)s, transfer_id = NULL, transfer_bytes = NULL, received_bytes = 0"
        " WHERE organization_id = %(organization_id)s AND id = %(file_id)s",
        row,
    )


async def set_asset(conn: Connection, organization_id: str, file_ids: Sequence[str], asset_id: str) -> None:
    """Notes which asset files have become."""
    await conn.execute(
        "UPDATE upload_file SET asset_id = %s WHERE organization_id = %s AND id = ANY(%s::uuid[])",
        (asset_id, organization_id, list(file_ids)),
    )


async def live_assets(conn: Connection, organization_id: str, upload_id: str) -> list[Row]:
    """The live assets that a session's files have become, of items that are live too."""
    cursor = await conn.execute(
        "SELECT DISTINCT a.* FROM upload_file f JOIN asset a ON a.id = f.asset_id AND a.deleted_at IS NULL"
        " JOIN item i ON i.id = a.item_id AND i.deleted_at IS NULL"
        " WHERE f.organization_id = %s AND f.upload_id = %s ORDER BY a.key",
        (organization_id, upload_id),
    )
    return await cursor.fetchall()


async def assets_of_item(conn: Connection, organization_id: str, item_id: str) -> list[Row]:
    """The live assets of an item."""
    cursor = await conn.execute(
        "SELECT * FROM asset WHERE organization_id = %s AND item_id = %s AND deleted_at IS NULL ORDER BY created_at, key, id",
        (organization_id, item_id),
    )
    return await cursor.fetchall()


async def paths_of_item(conn: Connection, organization_id: str, item_id: str) -> set[str]:
    """The objects that an item's assets name, deleted ones too, since they can be restored."""
    cursor = await conn.execute(
        "SELECT href FROM asset WHERE organization_id = %s AND item_id = %s AND NOT external", (organization_id, item_id)
    )
    return {row["href"] for row in await cursor.fetchall()}
