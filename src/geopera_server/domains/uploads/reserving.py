"""Room for what an open session takes: reserved before it comes, and given back exactly once, when the session ends.

The reservation is a column of the session. The database keeps the organization's total equal to the sum of them.
"""

from __future__ import annotations

from collections.abc import Sequence

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import plan_limit
from geopera_server.domains.uploads import rules
from geopera_server.domains.uploads.store import sessions
from geopera_server.domains.usage.quota import require_storage
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import PaymentRequired


async def require_plan_allows(ctx: Context, organization_id: str, wanted_bytes: int) -> None:
    """Raises PaymentRequired (`plan_limit_reached`) for more bytes than the plan lets one upload have."""
    limit = await plan_limit(ctx.conn, organization_id, "max_upload_bytes")
    if limit is not None and wanted_bytes > limit:
        raise PaymentRequired(
            f"Your plan lets one upload have {limit:,} bytes, and this one has {wanted_bytes:,}. Send less, or change to a"
            " larger plan.",
            code="plan_limit_reached",
            limit=limit,
            used=wanted_bytes,
        )


async def reserve_for(ctx: Context, upload: Row, files: Sequence[Row]) -> int:
    """Makes an open session, which the caller has locked, hold what it was declared to have, else what has come.

    Returns the bytes it holds. Raises PaymentRequired where the quota has no room for more.
    """
    wanted = rules.wanted_reservation(upload, files)
    if wanted != upload["reserved_bytes"]:
        await require_storage(ctx.conn, upload["organization_id"], wanted - upload["reserved_bytes"])
        await sessions.set_reserved(ctx.conn, upload["organization_id"], upload["id"], wanted)
    return wanted
