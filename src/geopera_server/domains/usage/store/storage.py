"""The ledger of stored bytes, what it comes to, and how it compares with the assets there are."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection, Row


async def lock_total(conn: Connection, organization_id: str) -> Row | None:
    """An organization's stored bytes; nothing of it is stored or removed before the transaction ends. None if unknown."""
    await conn.execute(
        "INSERT INTO storage_total (organization_id) SELECT id FROM organization WHERE id = %s AND purged_at IS NULL"
        " ON CONFLICT DO NOTHING",
        (organization_id,),
    )
    cursor = await conn.execute(
        "SELECT t.bytes, t.ledger_bytes, t.recalculated_at FROM storage_total t JOIN organization o ON o.id = t.organization_id"
        " WHERE t.organization_id = %s AND o.purged_at IS NULL FOR UPDATE OF t",
        (organization_id,),
    )
    return await cursor.fetchone()


async def lock_room(conn: Connection, organization_id: str) -> Row | None:
    """What an organization has stored and reserved, kept so as lock_total keeps it, with its plan; None without a plan."""
    await lock_total(conn, organization_id)
    cursor = await conn.execute(
        "SELECT t.bytes, t.reserved_bytes, p.included, p.overage FROM storage_total t"
        " JOIN organization o ON o.id = t.organization_id JOIN plan p ON p.id = o.plan_id WHERE t.organization_id = %s",
        (organization_id,),
    )
    return await cursor.fetchone()


async def compared(conn: Connection, organization_id: str, *, listed: int | None) -> Row:
    """The ledger against the live assets, at one moment; at most so many of each difference are listed, None lists all.

    missing: live assets without any entry. stale: assets that are gone and still counted. negative: gone and counted below 0.
    """
    cursor = await conn.execute(
        "WITH live AS MATERIALIZED (SELECT id, file_size_bytes AS bytes FROM asset"
        "  WHERE organization_id = %(organization)s AND deleted_at IS NULL AND expired_at IS NULL AND NOT external),"
        " net AS MATERIALIZED (SELECT asset_id, sum(bytes_delta)::bigint AS bytes FROM storage_entry"
        "  WHERE organization_id = %(organization)s GROUP BY asset_id),"
        " missing AS (SELECT l.id AS asset_id, l.bytes FROM live l LEFT JOIN net n ON n.asset_id = l.id"
        "  WHERE n.asset_id IS NULL AND l.bytes <> 0),"
        " gone AS (SELECT n.asset_id, n.bytes FROM net n LEFT JOIN live l ON l.id = n.asset_id"
        "  WHERE n.asset_id IS NOT NULL AND l.id IS NULL AND n.bytes <> 0)"
        " SELECT (SELECT coalesce(sum(bytes), 0)::bigint FROM net) AS ledger_bytes,"
        " (SELECT coalesce(sum(bytes), 0)::bigint FROM live) AS actual_bytes, (SELECT count(*) FROM live) AS assets,"
        " (SELECT count(*) FROM missing) AS missing_count, (SELECT count(*) FROM gone WHERE bytes > 0) AS stale_count,"
        " (SELECT count(*) FROM gone WHERE bytes < 0) AS negative_count,"
        " (SELECT coalesce(jsonb_agg(x), '[]') FROM (SELECT * FROM missing ORDER BY asset_id LIMIT %(listed)s) x) AS missing,"
        " (SELECT coalesce(jsonb_agg(x), '[]') FROM (SELECT * FROM gone WHERE bytes > 0 ORDER BY asset_id LIMIT %(listed)s) x)"
        "  AS stale,"
        " (SELECT coalesce(jsonb_agg(x), '[]') FROM (SELECT * FROM gone WHERE bytes < 0 ORDER BY asset_id LIMIT %(listed)s) x)"
        "  AS negative",
        {"organization": organization_id, "listed": listed},
    )
    row = await cursor.fetchone()
    assert row is not None
    return row


async def ledger_bytes(conn: Connection, organization_id: str) -> int:
    """The sum of an organization's entries."""
    cursor = await conn.execute(
        "SELECT coalesce(sum(bytes_delta), 0)::bigint AS bytes FROM storage_entry WHERE organization_id = %s",
        (organization_id,),
    )
    row = await cursor.fetchone()
    return 0 if row is None else int(row["bytes"])


async def asset_is_of(conn: Connection, organization_id: str, asset_id: str) -> bool:
    """Whether an asset is or was the organization's."""
    cursor = await conn.execute(
        "SELECT 1 FROM asset WHERE organization_id = %(organization)s AND id = %(asset)s UNION ALL"
        " SELECT 1 FROM storage_entry WHERE organization_id = %(organization)s AND asset_id = %(asset)s LIMIT 1",
        {"organization": organization_id, "asset": asset_id},
    )
    return await cursor.fetchone() is not None


async def insert_correction(conn: Connection, row: Row) -> None:
    """Appends a correction to the ledger, together with who made it and why."""
    await conn.execute(
        "WITH entry AS (INSERT INTO storage_entry (organization_id, project_id, asset_id, bytes_delta, kind, event_id, at,"
        "  invocation_id, note) VALUES (%(organization_id)s, (SELECT a.project_id FROM asset a WHERE a.id = %(asset_id)s"
        "  AND a.organization_id = %(organization_id)s), %(asset_id)s, %(bytes_delta)s, %(kind)s,"
        "  'correction:' || %(id)s::text, %(created_at)s, %(invocation_id)s, %(reason)s) RETURNING id)"
        " INSERT INTO storage_correction (id, organization_id, asset_id, entry_id, bytes_delta, reason, applied_by,"
        " ledger_bytes_after, invocation_id, created_at) SELECT %(id)s::uuid, %(organization_id)s, %(asset_id)s, entry.id,"
        " %(bytes_delta)s, %(reason)s, %(applied_by)s, %(ledger_bytes_after)s, %(invocation_id)s, %(created_at)s FROM entry",
        row,
    )


async def recount(conn: Connection, organization_id: str) -> None:
    """Makes every total anew: what is stored from the live assets, the rest from the entries."""
    await conn.execute(
        "UPDATE storage_total SET bytes = (SELECT coalesce(sum(a.file_size_bytes), 0) FROM asset a"
        "  WHERE a.organization_id = %(organization)s AND a.deleted_at IS NULL AND a.expired_at IS NULL AND NOT a.external),"
        " ledger_bytes = (SELECT coalesce(sum(e.bytes_delta), 0) FROM storage_entry e"
        "  WHERE e.organization_id = %(organization)s) WHERE organization_id = %(organization)s",
        {"organization": organization_id},
    )
    await conn.execute("DELETE FROM storage_of_project WHERE organization_id = %s", (organization_id,))
    await conn.execute(
        "INSERT INTO storage_of_project (project_id, organization_id, bytes)"
        " SELECT a.project_id, a.organization_id, sum(a.file_size_bytes) FROM asset a"
        " WHERE a.organization_id = %s AND a.deleted_at IS NULL AND a.expired_at IS NULL AND NOT a.external GROUP BY 1, 2",
        (organization_id,),
    )
    await conn.execute("DELETE FROM storage_day WHERE organization_id = %s", (organization_id,))
    await conn.execute(
        "INSERT INTO storage_day (organization_id, day, bytes_delta, bytes_peak, byte_seconds)"
        " SELECT organization_id, (at AT TIME ZONE 'UTC')::date, sum(bytes_delta), max(greatest(before, before + bytes_delta)),"
        " sum(bytes_delta * seconds_left_of_day(at)) FROM (SELECT *, sum(bytes_delta) OVER (ORDER BY at, number) - bytes_delta"
        "  AS before FROM storage_entry WHERE organization_id = %s) moved GROUP BY 1, 2",
        (organization_id,),
    )


async def note_recalculation(conn: Connection, organization_id: str, at: datetime) -> None:
    """Notes when everything an organization stores was last counted on request."""
    await conn.execute("UPDATE storage_total SET recalculated_at = %s WHERE organization_id = %s", (at, organization_id))


async def insert_run(conn: Connection, row: Row) -> Row:
    """Keeps a comparison."""
    cursor = await conn.execute(
        "INSERT INTO storage_run (id, organization_id, ledger_bytes, actual_bytes, flagged, threshold_bytes, missing, stale,"
        " negative, invocation_id, created_at) VALUES (%(id)s, %(organization_id)s, %(ledger_bytes)s, %(actual_bytes)s,"
        " %(flagged)s, %(threshold_bytes)s, %(missing)s, %(stale)s, %(negative)s, %(invocation_id)s, %(created_at)s)"
        " RETURNING *",
        row,
    )
    made = await cursor.fetchone()
    assert made is not None
    return made


async def billed_organizations(conn: Connection) -> list[str]:
    """The organizations with a plan or a balance."""
    cursor = await conn.execute(
        "SELECT o.id FROM organization o LEFT JOIN ledger_account a ON a.organization_id = o.id"
        " WHERE o.purged_at IS NULL AND (EXISTS (SELECT FROM plan p WHERE p.id = o.plan_id) OR a.balance <> 0) ORDER BY o.id"
    )
    return [row["id"] for row in await cursor.fetchall()]


async def organization_exists(conn: Connection, organization_id: str) -> bool:
    """Whether there is such an organization."""
    cursor = await conn.execute("SELECT 1 FROM organization WHERE id = %s AND purged_at IS NULL", (organization_id,))
    return await cursor.fetchone() is not None


_RUNS = (
    " FROM storage_run WHERE (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)"
    " AND (flagged OR NOT %(flagged)s)"
)


async def runs(conn: Connection, organization_id: str | None, *, flagged_only: bool, limit: int) -> list[Row]:
    """The comparisons made of one organization or all, newest first."""
    cursor = await conn.execute(
        "SELECT *" + _RUNS + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"organization": organization_id, "flagged": flagged_only, "limit": limit},
    )
    return await cursor.fetchall()


async def runs_total(conn: Connection, organization_id: str | None, *, flagged_only: bool) -> int:
    """How many comparisons there are."""
    cursor = await conn.execute("SELECT count(*) AS total" + _RUNS, {"organization": organization_id, "flagged": flagged_only})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["total"])


_CORRECTIONS = " FROM storage_correction WHERE (%(organization)s::uuid IS NULL OR organization_id = %(organization)s)"


async def corrections(conn: Connection, organization_id: str | None, *, limit: int) -> list[Row]:
    """The corrections of one organization's ledger or of all, newest first."""
    cursor = await conn.execute(
        "SELECT *" + _CORRECTIONS + " ORDER BY created_at DESC, id DESC LIMIT %(limit)s",
        {"organization": organization_id, "limit": limit},
    )
    return await cursor.fetchall()


async def corrections_total(conn: Connection, organization_id: str | None) -> int:
    """How many corrections there are."""
    cursor = await conn.execute("SELECT count(*) AS total" + _CORRECTIONS, {"organization": organization_id})
    row = await cursor.fetchone()
    return 0 if row is None else int(row["total"])
