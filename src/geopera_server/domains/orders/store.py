"""The rows of orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection, Row

_WITH_FIGURES = (
    "SELECT o.*, coalesce(h.remaining, 0) AS reserved_credits, coalesce(h.settled, 0) AS settled_credits,"
    " coalesce((SELECT jsonb_agg(g.priced ORDER BY g.position) FROM order_group g WHERE g.order_id = o.id), '[]') AS groups,"
    " coalesce((SELECT jsonb_agg(c.capture_id ORDER BY c.position) FROM order_capture c WHERE c.order_id = o.id), '[]')"
    "   AS capture_ids,"
    " coalesce((SELECT jsonb_agg(i.id ORDER BY i.created_at, i.id) FROM item i WHERE i.order_id = o.id"
    "   AND i.deleted_at IS NULL), '[]') AS item_ids,"
    " coalesce((SELECT jsonb_agg(a.id ORDER BY a.created_at, a.id) FROM item i JOIN asset a ON a.item_id = i.id"
    "   WHERE i.order_id = o.id AND i.deleted_at IS NULL AND a.deleted_at IS NULL), '[]') AS asset_ids"
    " FROM orders o LEFT JOIN ledger_hold h ON h.order_id = o.id"
)


# What an order reads as, beyond the columns it is inserted with, until something happens to it.
NEW_ORDER: Mapping[str, Any] = {
    "settled_credits": 0, "item_ids": [], "asset_ids": [], "collection_id": None, "estimated_delivery": None,
    "failure_reason": None, "failure_details": None, "fulfilled_at": None, "cancelled_at": None,
}  # fmt: skip


async def insert_order(conn: Connection, row: Mapping[str, Any]) -> None:
    """A new order."""
    await conn.execute(
        "INSERT INTO orders (id, organization_id, project_id, type, status, sub_status, display_name, tags, billing_mode,"
        " total_credits, license_type, params, data_product_id, aoi, target_collection_id, created_by, created_by_type,"
        " created_at, updated_at) VALUES (%(id)s, %(organization_id)s, %(project_id)s, %(type)s, %(status)s,"
        " %(sub_status)s, %(display_name)s, %(tags)s, %(billing_mode)s, %(total_credits)s, %(license_type)s, %(params)s,"
        " %(data_product_id)s, %(aoi)s, %(target_collection_id)s, %(created_by)s, %(created_by_type)s,"
        " %(created_at)s, %(updated_at)s)",
        {**row, "params": Jsonb(row["params"]), "aoi": None if row["aoi"] is None else Jsonb(row["aoi"])},
    )


async def insert_group(conn: Connection, row: Mapping[str, Any]) -> None:
    """One priced group of a new order."""
    await conn.execute(
        "INSERT INTO order_group (id, order_id, organization_id, position, credits, priced)"
        " VALUES (%(id)s, %(order_id)s, %(organization_id)s, %(position)s, %(credits)s, %(priced)s)",
        row,
    )


async def insert_capture(conn: Connection, row: Mapping[str, Any]) -> None:
    """One capture of a new order, as it was found."""
    await conn.execute(
        "INSERT INTO order_capture (order_id, group_id, organization_id, position, host, capture_id, aoi, found)"
        " VALUES (%(order_id)s, %(group_id)s, %(organization_id)s, %(position)s, %(host)s, %(capture_id)s, %(aoi)s, %(found)s)",
        row,
    )


async def insert_event(
    conn: Connection,
    order: Mapping[str, Any],
    *,
    at: datetime,
    kind: str,
    actor: str,
    note: str | None,
    data: Mapping[str, Any],
) -> None:
    """A line of an order's history, with the state it was in then."""
    await conn.execute(
        "INSERT INTO order_event (order_id, organization_id, at, type, status, sub_status, actor_type, note, data)"
        " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (order["id"], order["organization_id"], at, kind, order["status"], order["sub_status"], actor, note, Jsonb(data)),
    )


async def set_billing_mode(conn: Connection, organization_id: str, order_id: str, mode: str) -> None:
    """Notes how an order was paid."""
    await conn.execute(
        "UPDATE orders SET billing_mode = %s WHERE organization_id = %s AND id = %s", (mode, organization_id, order_id)
    )


async def order_of(conn: Connection, organization_id: str, order_id: str) -> Row | None:
    """An order with its groups, figures and deliveries; None for unknown ones and other organizations'."""
    cursor = await conn.execute(_WITH_FIGURES + " WHERE o.organization_id = %s AND o.id = %s", (organization_id, order_id))
    return await cursor.fetchone()


async def lock_order(conn: Connection, organization_id: str, order_id: str) -> Row | None:
    """The bare row, held until the transaction ends."""
    cursor = await conn.execute(
        "SELECT * FROM orders WHERE organization_id = %s AND id = %s FOR UPDATE", (organization_id, order_id)
    )
    return await cursor.fetchone()


async def set_state(conn: Connection, organization_id: str, order_id: str, state: Mapping[str, Any]) -> None:
    """Moves an order to a state; the database refuses moves that are not allowed."""
    await conn.execute(
        "UPDATE orders SET status = %(status)s, sub_status = %(sub_status)s, updated_at = %(at)s,"
        " fulfilled_at = CASE WHEN %(status)s = 'fulfilled' THEN %(at)s ELSE fulfilled_at END,"
        " cancelled_at = CASE WHEN %(status)s = 'cancelled' THEN %(at)s ELSE cancelled_at END,"
        " failure_reason = %(failure_reason)s, failure_details = %(failure_details)s,"
        " collection_id = coalesce(collection_id, %(collection_id)s)"
        " WHERE organization_id = %(organization_id)s AND id = %(id)s",
        {
            "failure_reason": None, "failure_details": None, "collection_id": None, **state,
            "organization_id": organization_id, "id": order_id,
        },
    )  # fmt: skip


async def set_tags(conn: Connection, organization_id: str, order_id: str, tags: Sequence[str], at: datetime) -> None:
    """Replaces an order's tags."""
    await conn.execute(
        "UPDATE orders SET tags = %s, updated_at = %s WHERE organization_id = %s AND id = %s",
        (list(tags), at, organization_id, order_id),
    )


async def captures_of(conn: Connection, organization_id: str, order_id: str) -> list[Row]:
    """The captures of an order in the order of the cart, with the group each belongs to."""
    cursor = await conn.execute(
        "SELECT c.*, g.credits AS group_credits, g.position AS group_position, g.settled_at AS group_settled_at"
        " FROM order_capture c JOIN order_group g ON g.id = c.group_id"
        " WHERE c.organization_id = %s AND c.order_id = %s ORDER BY c.position",
        (organization_id, order_id),
    )
    return await cursor.fetchall()


async def mark_delivered(
    conn: Connection, organization_id: str, order_id: str, position: int, *, item_id: str, at: datetime
) -> bool:
    """Notes a capture's item; False when the capture was delivered before."""
    cursor = await conn.execute(
        "UPDATE order_capture SET item_id = %s, delivered_at = %s"
        " WHERE organization_id = %s AND order_id = %s AND position = %s AND delivered_at IS NULL",
        (item_id, at, organization_id, order_id, position),
    )
    return cursor.rowcount == 1


async def mark_settled(conn: Connection, organization_id: str, group_id: str, at: datetime) -> bool:
    """Notes that a group is paid; False when it was before."""
    cursor = await conn.execute(
        "UPDATE order_group SET settled_at = %s WHERE organization_id = %s AND id = %s AND settled_at IS NULL",
        (at, organization_id, group_id),
    )
    return cursor.rowcount == 1


async def events_of(conn: Connection, organization_id: str, order_id: str) -> list[Row]:
    """An order's history as its organization may see it, oldest first."""
    cursor = await conn.execute(
        "SELECT at, type, status, sub_status, actor_type, note, data FROM order_event"
        " WHERE organization_id = %s AND order_id = %s AND NOT operator_only ORDER BY id",
        (organization_id, order_id),
    )
    return await cursor.fetchall()


_FILTERS = (
    " WHERE o.organization_id = %(organization_id)s"
    " AND (%(project_id)s::text IS NULL OR o.project_id::text = %(project_id)s)"
    " AND (%(name)s::text IS NULL OR strpos(lower(o.display_name), lower(%(name)s)) > 0)"
    " AND (%(type)s::text IS NULL OR o.type = %(type)s)"
    " AND (%(statuses)s::text[] IS NULL OR o.status = ANY(%(statuses)s) OR o.sub_status = ANY(%(sub_statuses)s::text[]))"
    " AND (%(sub_status)s::text IS NULL OR o.sub_status = %(sub_status)s)"
    " AND (%(tags)s::text[] IS NULL OR o.tags && %(tags)s)"
    " AND (%(products)s::text[] IS NULL OR o.data_product_id = ANY(%(products)s))"
    " AND (%(ids)s::text[] IS NULL OR o.id::text = ANY(%(ids)s))"
)
_ORDERINGS = {
    ("createdAt", "asc"): " ORDER BY o.created_at, o.id",
    ("createdAt", "desc"): " ORDER BY o.created_at DESC, o.id DESC",
    ("updatedAt", "asc"): " ORDER BY o.updated_at, o.id",
    ("updatedAt", "desc"): " ORDER BY o.updated_at DESC, o.id DESC",
    ("status", "asc"): " ORDER BY o.status, o.id",
    ("status", "desc"): " ORDER BY o.status DESC, o.id DESC",
    ("type", "asc"): " ORDER BY o.type, o.id",
    ("type", "desc"): " ORDER BY o.type DESC, o.id DESC",
    ("displayName", "asc"): " ORDER BY lower(o.display_name), o.id",
    ("displayName", "desc"): " ORDER BY lower(o.display_name) DESC, o.id DESC",
}
SORT_FIELDS = tuple(dict.fromkeys(field for field, _ in _ORDERINGS))


async def page_of(conn: Connection, filters: Mapping[str, Any], *, sort: tuple[str, str], limit: int, offset: int) -> list[Row]:
    """One page of an organization's orders."""
    cursor = await conn.execute(
        _WITH_FIGURES + _FILTERS + _ORDERINGS[sort] + " LIMIT %(limit)s OFFSET %(offset)s",
        {**filters, "limit": limit, "offset": offset},
    )
    return await cursor.fetchall()


async def count_of(conn: Connection, filters: Mapping[str, Any]) -> int:
    """How many orders the filters match."""
    cursor = await conn.execute("SELECT count(*) AS found FROM orders o" + _FILTERS, filters)
    row = await cursor.fetchone()
    return 0 if row is None else int(row["found"])
