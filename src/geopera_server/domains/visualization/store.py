"""The rows of visualization profiles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.db.pool import Connection, Row


async def profiles_of(conn: Connection, organization_id: str, item_id: str) -> list[Row]:
    """The profiles of an item, in the order in which they are shown."""
    cursor = await conn.execute(
        "SELECT * FROM visualization_profile WHERE organization_id = %s AND item_id = %s ORDER BY sort_order, created_at, id",
        (organization_id, item_id),
    )
    return await cursor.fetchall()


async def profile_of(conn: Connection, organization_id: str, item_id: str, profile_id: str) -> Row | None:
    """One profile of an item."""
    cursor = await conn.execute(
        "SELECT * FROM visualization_profile WHERE organization_id = %s AND item_id = %s AND id = %s",
        (organization_id, item_id, profile_id),
    )
    return await cursor.fetchone()


async def default_profile(conn: Connection, item_id: str) -> Row | None:
    """The profile that an item is shown by when nobody asks for another."""
    cursor = await conn.execute("SELECT * FROM visualization_profile WHERE item_id = %s AND is_default", (item_id,))
    return await cursor.fetchone()


async def lock_profiles(conn: Connection, organization_id: str, item_id: str) -> None:
    """Makes changes to the profiles of one item go one after the other until the transaction ends."""
    await conn.execute(
        "SELECT 1 FROM item WHERE organization_id = %s AND id = %s FOR NO KEY UPDATE", (organization_id, item_id)
    )


async def insert_profile(conn: Connection, row: Mapping[str, Any]) -> Row | None:
    """Adds a profile; None when the item has one of that name."""
    cursor = await conn.execute(
        "INSERT INTO visualization_profile (id, organization_id, item_id, name, layer, type, config, asset_key, is_default,"
        " sort_order, created_by, created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(item_id)s, %(name)s,"
        " %(layer)s, %(type)s, %(config)s, %(asset_key)s, %(is_default)s, %(sort_order)s, %(created_by)s, %(at)s, %(at)s)"
        " ON CONFLICT (item_id, lower(name)) DO NOTHING RETURNING *",
        row,
    )
    return await cursor.fetchone()


async def save_found(conn: Connection, row: Mapping[str, Any]) -> None:
    """Adds a profile that rules or statistics have found, or brings an earlier find up to date; what users made stays."""
    await conn.execute(
        "INSERT INTO visualization_profile AS v (id, organization_id, item_id, name, layer, type, config, asset_key,"
        " sort_order, created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(item_id)s, %(name)s, %(layer)s,"
        " %(type)s, %(config)s, %(asset_key)s, %(sort_order)s, %(at)s, %(at)s)"
        " ON CONFLICT (item_id, lower(name)) DO UPDATE SET layer = EXCLUDED.layer, type = EXCLUDED.type,"
        " config = EXCLUDED.config, asset_key = EXCLUDED.asset_key, sort_order = EXCLUDED.sort_order,"
        " version = v.version + 1, updated_at = EXCLUDED.updated_at"
        " WHERE v.layer <> 'user' AND (v.type, v.config, v.asset_key, v.layer)"
        "  IS DISTINCT FROM (EXCLUDED.type, EXCLUDED.config, EXCLUDED.asset_key, EXCLUDED.layer)",
        row,
    )


async def update_profile(conn: Connection, row: Mapping[str, Any]) -> Row:
    """Writes a profile's new values; its version rises with `more`."""
    cursor = await conn.execute(
        "UPDATE visualization_profile SET name = %(name)s, layer = %(layer)s, type = %(type)s, config = %(config)s,"
        " asset_key = %(asset_key)s, is_default = %(is_default)s, sort_order = %(sort_order)s,"
        " version = version + %(more)s, updated_at = %(at)s"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def name_is_taken(conn: Connection, item_id: str, name: str, *, but_by: str) -> bool:
    """Whether another profile of the item has the name, whatever its case."""
    cursor = await conn.execute(
        "SELECT 1 FROM visualization_profile WHERE item_id = %s AND lower(name) = lower(%s) AND id <> %s",
        (item_id, name, but_by),
    )
    return await cursor.fetchone() is not None


async def clear_default(conn: Connection, item_id: str) -> None:
    """Leaves an item without a default."""
    await conn.execute("UPDATE visualization_profile SET is_default = false WHERE item_id = %s AND is_default", (item_id,))


async def make_default(conn: Connection, item_id: str, profile_id: str) -> None:
    """Makes one profile the default; the item must have none."""
    await conn.execute(
        "UPDATE visualization_profile SET is_default = true WHERE item_id = %s AND id = %s", (item_id, profile_id)
    )


async def delete_profile(conn: Connection, organization_id: str, item_id: str, profile_id: str) -> None:
    """Removes a profile."""
    await conn.execute(
        "DELETE FROM visualization_profile WHERE organization_id = %s AND item_id = %s AND id = %s",
        (organization_id, item_id, profile_id),
    )


async def delete_found_but(conn: Connection, item_id: str, names: Sequence[str]) -> None:
    """Removes what rules and statistics found for an item before and do not find any more."""
    await conn.execute(
        "DELETE FROM visualization_profile WHERE item_id = %s AND layer <> 'user'"
        " AND NOT lower(name) = ANY(SELECT lower(n) FROM unnest(%s::text[]) AS n)",
        (item_id, list(names)),
    )


async def delete_profiles_of(conn: Connection, organization_id: str, item_ids: Sequence[str]) -> None:
    """Removes the profiles of items."""
    await conn.execute(
        "DELETE FROM visualization_profile WHERE organization_id = %s AND item_id = ANY(%s::uuid[])",
        (organization_id, list(item_ids)),
    )


async def copy_profiles(conn: Connection, organization_id: str, source_item_id: str, row: Mapping[str, Any]) -> None:
    """Gives an item, which has none, the profiles of another one of the organization."""
    await conn.execute(
        "INSERT INTO visualization_profile (id, organization_id, item_id, name, layer, type, config, asset_key, is_default,"
        " sort_order, created_by, created_at, updated_at)"
        " SELECT gen_random_uuid(), organization_id, %(item)s, name, layer, type, config, asset_key, is_default, sort_order,"
        "  %(created_by)s, %(at)s, %(at)s FROM visualization_profile"
        " WHERE organization_id = %(organization)s AND item_id = %(source)s"
        " ON CONFLICT (item_id, lower(name)) DO NOTHING",
        {**row, "organization": organization_id, "source": source_item_id},
    )


async def rasters_of(conn: Connection, organization_id: str, item_id: str) -> list[Row]:
    """The live assets of an item, in the order of their making, as far as pictures of them need."""
    cursor = await conn.execute(
        "SELECT id, key, roles, media_type, band_names, band_count, dtype, statistics, external FROM asset"
        " WHERE organization_id = %s AND item_id = %s AND deleted_at IS NULL ORDER BY created_at, key, id",
        (organization_id, item_id),
    )
    return await cursor.fetchall()
