"""Taking an organization out of the database, step by step.

Every table that names an organization is in exactly one of the lists below; a test compares them with the database.
"""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row

# Money that moved, what proves it, and who did what. The files' rows go with their files; see forget_assets.
KEPT = frozenset({
    "accrual", "approval", "audit_event", "billing_run", "budget", "commitment", "commitment_adjustment", "invoice",
    "invoice_line", "ledger_account", "ledger_entry", "ledger_hold", "lineage_edge", "lineage_head", "lineage_record",
    "lineage_seal", "payment_method", "plan_change", "storage_correction", "storage_day", "storage_entry", "storage_run",
    "storage_total", "test_processor_customer", "topup", "organization",
})  # fmt: skip

ACCESS = {
    "share_link": "DELETE FROM share_link WHERE organization_id = %s",
    "tile_key": "DELETE FROM tile_key WHERE organization_id = %s",
    "authorization_code": "DELETE FROM authorization_code WHERE organization_id = %s",
    "device_grant": "DELETE FROM device_grant WHERE organization_id = %s",
    "auth_session": "DELETE FROM auth_session s WHERE s.organization_id = %(id)s"
    " OR s.api_key_id IN (SELECT k.id FROM api_key k WHERE k.organization_id = %(id)s)",
    "api_key": "DELETE FROM api_key WHERE organization_id = %s",
    "project_member": "DELETE FROM project_member m USING project p WHERE p.id = m.project_id AND p.organization_id = %s",
    "membership": "DELETE FROM membership WHERE organization_id = %s",
}
DATA = {
    # A processor that was away still has to hear which cards to forget; what that work reads stays.
    "job": "DELETE FROM job WHERE organization_id = %s AND kind <> 'payment_method.forget'",
    "egress_grant": "DELETE FROM egress_grant WHERE organization_id = %s",
    "visualization_profile": "DELETE FROM visualization_profile WHERE organization_id = %s",
    "upload_part": "DELETE FROM upload_part WHERE organization_id = %s",
    "upload_file": "DELETE FROM upload_file WHERE organization_id = %s",
    "upload": "DELETE FROM upload WHERE organization_id = %s",
    "asset": "DELETE FROM asset WHERE organization_id = %s",
    "item": "DELETE FROM item WHERE organization_id = %s",
    "erasure": "DELETE FROM erasure WHERE organization_id = %s",
    "collection": "DELETE FROM collection WHERE organization_id = %s",
    "order_event": "DELETE FROM order_event WHERE organization_id = %s",
    "order_capture": "DELETE FROM order_capture WHERE organization_id = %s",
    "order_group": "DELETE FROM order_group WHERE organization_id = %s",
    "orders": "DELETE FROM orders WHERE organization_id = %s",
    "storage_of_project": "DELETE FROM storage_of_project WHERE organization_id = %s",
    "project": "DELETE FROM project WHERE organization_id = %s",
    "price_rule": "DELETE FROM price_rule WHERE organization_id = %s",
    "usage_day": "DELETE FROM usage_day WHERE organization_id = %s",
    "usage_dead_letter": "DELETE FROM usage_dead_letter WHERE organization_id = %s::text",
    "idempotency_record": "DELETE FROM idempotency_record WHERE organization_id = %s",
    "outbox_event": "DELETE FROM outbox_event WHERE organization_id = %s",
    "wallet": "DELETE FROM wallet WHERE organization_id = %s",
    "payment_customer": "DELETE FROM payment_customer WHERE organization_id = %s",
}


async def due(conn: Connection, at: datetime) -> list[str]:
    """Which organizations are past the date of their deletion, the longest past first."""
    cursor = await conn.execute(
        "SELECT id FROM organization WHERE deletion_due_at <= %s AND purged_at IS NULL ORDER BY deletion_due_at, id", (at,)
    )
    return [row["id"] for row in await cursor.fetchall()]


async def lock_due(conn: Connection, organization_id: str, at: datetime) -> Row | None:
    """The organization, kept as it is until the transaction ends, if it is past the date of its deletion."""
    cursor = await conn.execute(
        "SELECT * FROM organization WHERE id = %s AND deletion_due_at <= %s AND purged_at IS NULL FOR UPDATE",
        (organization_id, at),
    )
    return await cursor.fetchone()


async def shut_out(conn: Connection, organization_id: str, at: datetime) -> None:
    """Notes that the deletion has begun and takes everybody's way in; there is no way back from here."""
    await conn.execute(
        "UPDATE organization SET purge_started_at = coalesce(purge_started_at, %s) WHERE id = %s", (at, organization_id)
    )
    for statement in ACCESS.values():
        values = {"id": organization_id} if "%(id)s" in statement else (organization_id,)
        await conn.execute(statement, values)


async def some_assets(conn: Connection, organization_id: str, limit: int) -> list[Row]:
    """Some files of an organization, deleted ones too."""
    cursor = await conn.execute(
        "SELECT id, href, external, file_size_bytes FROM asset WHERE organization_id = %s ORDER BY id LIMIT %s",
        (organization_id, limit),
    )
    return await cursor.fetchall()


async def forget_assets(conn: Connection, organization_id: str, asset_ids: list[str]) -> None:
    """Removes the rows of files that are gone."""
    await conn.execute("DELETE FROM asset WHERE organization_id = %s AND id = ANY(%s::uuid[])", (organization_id, asset_ids))


async def projects(conn: Connection, organization_id: str) -> list[str]:
    """The projects of an organization, deleted ones too."""
    cursor = await conn.execute("SELECT id FROM project WHERE organization_id = %s ORDER BY id", (organization_id,))
    return [row["id"] for row in await cursor.fetchall()]


async def named_by_assets(conn: Connection, paths: list[str]) -> set[str]:
    """Those paths that an asset of anybody names."""
    cursor = await conn.execute("SELECT DISTINCT href FROM asset WHERE href = ANY(%s::text[]) AND NOT external", (paths,))
    return {row["href"] for row in await cursor.fetchall()}


async def live_methods(conn: Connection, organization_id: str, processor: str) -> list[str]:
    """The cards that the processor still keeps for an organization, by its own ids."""
    cursor = await conn.execute(
        "SELECT method_id FROM payment_method WHERE organization_id = %s AND processor = %s AND detached_at IS NULL",
        (organization_id, processor),
    )
    return [row["method_id"] for row in await cursor.fetchall()]


async def forget_data(conn: Connection, organization_id: str) -> None:
    """Removes what belonged to the organization and proves nothing."""
    for statement in DATA.values():
        await conn.execute(statement, (organization_id,))


async def blank(conn: Connection, organization_id: str, at: datetime) -> None:
    """Leaves of the organization only the row that its ledger hangs on, and of its cards what its receipts name."""
    await conn.execute(
        "UPDATE payment_method SET is_default = false, detached_at = coalesce(detached_at, %s), holder_name = NULL"
        " WHERE organization_id = %s",
        (at, organization_id),
    )
    await conn.execute(
        "UPDATE organization SET name = 'Deleted organization', slug = 'deleted-' || id, description = NULL, website = NULL,"
        " industry = NULL, size = NULL, country = NULL, abn = NULL, tax_number = NULL, billing_email = NULL,"
        " billing_address = NULL, settings = '{}', created_by = NULL, free_tier = 'none', deletion_reason = NULL,"
        " suspended_reason = NULL, purged_at = %(at)s, updated_at = %(at)s WHERE id = %(id)s",
        {"at": at, "id": organization_id},
    )
