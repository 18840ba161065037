"""What an organization's plan allows at most; every domain asks here before it makes one more of something."""

from __future__ import annotations

from geopera_server.db.pool import Connection
from geopera_server.domains.billing.store import plans
from geopera_server.kernel.errors import PaymentRequired

_WORDS = {"api_keys": "API keys", "max_item_assets": "files of one item", "max_upload_bytes": "bytes of one upload"}


async def plan_limit(conn: Connection, organization_id: str, name: str) -> int | None:
    """Returns a number that the organization's plan includes or limits, by its name in Plan; None when there is no limit."""
    return await plans.number_of_plan(conn, organization_id, name)


async def require_room(conn: Connection, organization_id: str, name: str, used: int) -> None:
    """Raises PaymentRequired (`plan_limit_reached`) unless the plan allows one more beside those in use.

    Whoever counts what is used keeps others from making more until the transaction ends.
    """
    limit = await plan_limit(conn, organization_id, name)
    if limit is not None and used >= limit:
        words = _WORDS.get(name, name.replace("_", " "))
        raise PaymentRequired(
            f"Your plan includes {limit:,} {words} and {used:,} are in use. Remove one, or change to a larger plan.",
            code="plan_limit_reached",
            limit=limit,
            used=used,
        )
