"""Counting what is downloaded, once for each file, downloader and life of an address."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.items import rules, store
from geopera_server.domains.items.shapes import Egress
from geopera_server.kernel.errors import RateLimited
from geopera_server.values.periods import month_of


async def count_egress(conn: Connection, asset: Mapping[str, Any], *, principal_id: str, at: datetime) -> Egress:
    """Counts the download of a file while no address of the same downloader lives; files that lie elsewhere count nothing.

    Raises RateLimited beyond what the plan of the file's organization allows. Needs a transaction.
    """
    organization_id = asset["organization_id"]
    await store.lock_egress(conn, organization_id)
    plan = await store.plan_of(conn, organization_id)
    used = await store.egress_since(conn, organization_id, month_of(at).start)
    counted = 0
    if not asset["external"] and not await store.has_open_grant(
        conn, organization_id, asset_id=asset["id"], principal_id=principal_id, at=at
    ):
        counted = asset["file_size_bytes"]
        if not rules.egress_is_open(plan, used_bytes=used, more_bytes=counted):
            raise _over(at, used_bytes=used, limit_bytes=rules.egress_limit(plan))
        await store.insert_grant(
            conn,
            {
                "asset_id": asset["id"],
                "principal_id": principal_id,
                "organization_id": organization_id,
                "bytes": counted,
                "issued_at": at,
                "expires_at": rules.link_expiry(at),
            },
        )
    return Egress(counted_bytes=counted, period_used_bytes=used + counted, period_limit_bytes=rules.egress_limit(plan))


def _over(at: datetime, *, used_bytes: int, limit_bytes: int | None) -> RateLimited:
    seconds_left = math.ceil((month_of(at).end - at).total_seconds())
    return RateLimited(
        f"Your plan includes {limit_bytes:,} bytes of downloads a month and {used_bytes:,} are used."
        " Choose a larger plan, or come back next month.",
        code="egress_limited",
        retry_after_s=seconds_left,
    )
