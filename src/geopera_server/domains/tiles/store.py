"""What a tile needs to know, asked in as few round trips as can be."""

from __future__ import annotations

from datetime import date

from geopera_server.db.pool import Connection, Row

# Counted only where the plan ends tiles at a number: it includes so many and sells no more.
_TILES_LEFT = (
    " CASE WHEN coalesce((l.overage->>'tiles_per_1000_credits')::numeric, 0) = 0 AND l.included->>'tile_requests' IS NOT NULL"
    "  THEN greatest(0, (l.included->>'tile_requests')::bigint - (SELECT coalesce(sum(u.amount), 0) FROM usage_day u"
    "   WHERE u.organization_id = i.organization_id AND u.day >= %(month)s"
    "   AND u.kind IN ('tile_requests', 'shared_tile_requests')))::bigint END AS tiles_left"
)
# No-data may be NaN or infinite, which JSON cannot say.
_ASSETS = (
    " ARRAY(SELECT jsonb_build_object('id', a.id, 'key', a.key, 'href', a.href, 'external', a.external, 'media_type',"
    "  a.media_type, 'roles', a.roles, 'band_names', a.band_names, 'band_count', a.band_count, 'dtype', a.dtype,"
    "  'nodata', a.nodata::text, 'checksum', a.checksum, 'updated_at', a.updated_at,"
    "  'statistics', CASE WHEN a.dtype LIKE 'float%%' THEN a.statistics END)"
    "  FROM asset a WHERE a.item_id = i.id AND a.organization_id = i.organization_id AND a.deleted_at IS NULL"
    "  ORDER BY a.created_at, a.key, a.id) AS assets"
)
# Who may see the item is settled here, as in items.access: its organization, and those who read everywhere.
_OF_LIVE_ITEM = (
    " FROM item i JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
    " JOIN organization o ON o.id = i.organization_id LEFT JOIN plan l ON l.id = o.plan_id"
    " LEFT JOIN LATERAL (SELECT v.id, v.name, v.type, v.config, v.asset_key FROM visualization_profile v"
    "  WHERE v.item_id = i.id AND CASE WHEN %(profile)s::text IS NULL THEN v.is_default"
    "   ELSE v.id::text = lower(%(profile)s) OR lower(v.name) = lower(%(profile)s) END"
    "  ORDER BY v.id::text = lower(%(profile)s) DESC LIMIT 1) v ON true"
    " WHERE i.id = %(item)s AND i.deleted_at IS NULL AND (i.organization_id = %(organization)s OR %(everywhere)s)"
)
_SHOWN = (
    "SELECT i.id, i.organization_id, i.project_id, i.collection_id, i.name, i.description, i.lifecycle_state,"
    " jsonb_build_object('platform', i.properties->'platform', 'constellation', i.properties->'constellation', 'mission',"
    "  i.properties->'mission', 'instruments', i.properties->'instruments', 'geopera:collection',"
    "  i.properties->'geopera:collection', 's2:processing_baseline', i.properties->'s2:processing_baseline',"
    "  'sentinel:processing_baseline', i.properties->'sentinel:processing_baseline', 'earthsearch:boa_offset_applied',"
    "  i.properties->'earthsearch:boa_offset_applied', 'sentinel:boa_offset_applied',"
    "  i.properties->'sentinel:boa_offset_applied') AS properties,"
    " v.id AS profile_id, v.name AS profile_name, v.type AS profile_type, v.config AS profile_config,"
    " v.asset_key AS profile_asset_key," + _TILES_LEFT + ","
)


async def shown_item(
    conn: Connection, item_id: str, *, profile: str | None, organization_id: str | None, everywhere: bool, month: date
) -> Row | None:
    """A live item with its live assets, the named profile or else the default one, and how many tiles its owner may have yet.

    `tiles_left` in the month that begins on a day is None where the owner's plan has no limit, or sells more beyond it.
    """
    cursor = await conn.execute(
        _SHOWN + _ASSETS + _OF_LIVE_ITEM,
        {
            "item": item_id, "profile": profile, "organization": organization_id, "everywhere": everywhere, "month": month,
        },
    )  # fmt: skip
    return await cursor.fetchone()


async def item_at(conn: Connection, path: str, *, organization_id: str | None, everywhere: bool, month: date) -> Row | None:
    """The live item that holds a file in own storage, the file, and `tiles_left` as for an item."""
    cursor = await conn.execute(
        "SELECT i.id, i.organization_id, i.project_id, i.collection_id, i.lifecycle_state, a.id AS asset_id, a.key, a.href,"
        " a.external, a.checksum, a.updated_at, a.band_names, a.band_count,"
        + _TILES_LEFT
        + " FROM asset a JOIN item i ON i.id = a.item_id AND i.deleted_at IS NULL"
        " JOIN project p ON p.id = i.project_id AND p.deleted_at IS NULL"
        " JOIN organization o ON o.id = i.organization_id LEFT JOIN plan l ON l.id = o.plan_id"
        " WHERE a.href = %(path)s AND NOT a.external AND a.deleted_at IS NULL"
        " AND (a.organization_id = %(organization)s OR %(everywhere)s) ORDER BY a.created_at, a.id LIMIT 1",
        {"path": path, "organization": organization_id, "everywhere": everywhere, "month": month},
    )
    return await cursor.fetchone()
