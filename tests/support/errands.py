"""Background work done at once, where nothing runs in the background."""

from __future__ import annotations

from geopera_server.app import DOMAINS
from geopera_server.kernel.jobs import JobRun, load_handlers
from support.house import Household


async def do_jobs(household: Household, kind: str) -> int:
    """Does the open jobs of a kind now, due or not, as a worker would; returns how many those were."""
    handler = load_handlers(DOMAINS)[kind]
    rows = await household.sql(
        "UPDATE job SET state = 'running', attempt = attempt + 1, leased_until = now() + interval '1 minute', worker = '0'"
        " WHERE kind = %s AND state = 'queued' RETURNING *",
        kind,
    )
    for row in rows:
        await handler(
            JobRun(
                id=row["id"], kind=row["kind"], organization_id=row["organization_id"], entity_id=row["entity_id"],
                payload=row["payload"], attempt=row["attempt"], failures=row["failures"], max_attempts=5,
                kernel=household.house.kernel,
            )
        )  # fmt: skip
    return len(rows)
