"""Compares the ledger of stored bytes with the assets there are, and puts it right by entries that say who did it and why.

The rows of live assets in own storage are what is stored: they are written with the objects' sizes, in the transaction that
makes or removes them. Whether the objects are really there is what `usage.admin.reconcile_storage` looks at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.usage.store import storage as store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound
from geopera_server.values.ids import is_id, new_id


async def locked_total(ctx: Context, organization_id: str) -> Row:
    """Returns an organization's totals, and keeps its storage as it is until the call ends; raises NotFound."""
    total = await store.lock_total(ctx.conn, organization_id) if is_id(organization_id) else None
    if total is None:
        raise NotFound("organization")
    ctx.touch("organization", organization_id)
    return total


async def require_organization(conn: Connection, organization_id: str) -> None:
    """Raises NotFound unless there is such an organization."""
    if not is_id(organization_id) or not await store.organization_exists(conn, organization_id):
        raise NotFound("organization")


async def record_run(ctx: Context, organization_id: str, *, threshold_bytes: int) -> Row:
    """Compares, keeps the comparison, flagged when it differs by more than the threshold, and returns its row."""
    return await keep_run(
        ctx, organization_id, await store.compared(ctx.conn, organization_id, listed=0), threshold_bytes=threshold_bytes
    )


async def keep_run(ctx: Context, organization_id: str, found: Row, *, threshold_bytes: int) -> Row:
    """Keeps a comparison, flagged when it differs by more than the threshold, and returns its row."""
    drift = found["ledger_bytes"] - found["actual_bytes"]
    return await store.insert_run(
        ctx.conn,
        {
            "id": new_id(),
            "organization_id": organization_id,
            "ledger_bytes": found["ledger_bytes"],
            "actual_bytes": found["actual_bytes"],
            "flagged": abs(drift) > threshold_bytes,
            "threshold_bytes": threshold_bytes,
            "missing": found["missing_count"],
            "stale": found["stale_count"],
            "negative": found["negative_count"],
            "invocation_id": ctx.invocation_id,
            "created_at": ctx.now,
        },
    )


async def correct(
    ctx: Context, organization_id: str, kind: str, movements: Sequence[tuple[str | None, int]], *, reason: str
) -> list[dict[str, Any]]:
    """Appends one entry and its correction for each asset and bytes, makes the totals anew, and returns the corrections.

    The caller holds the organization's total.
    """
    after = await store.ledger_bytes(ctx.conn, organization_id)
    made = []
    for asset_id, bytes_delta in movements:
        after += bytes_delta
        row = {
            "id": new_id(),
            "organization_id": organization_id,
            "asset_id": asset_id,
            "bytes_delta": bytes_delta,
            "kind": kind,
            "reason": reason,
            "applied_by": ctx.principal.id or ctx.principal.kind,
            "ledger_bytes_after": after,
            "invocation_id": ctx.invocation_id,
            "created_at": ctx.now,
        }
        await store.insert_correction(ctx.conn, row)
        made.append(row)
    if made:
        await store.recount(ctx.conn, organization_id)
    return made
