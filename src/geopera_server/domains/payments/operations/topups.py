"""What was bought with cards."""

from __future__ import annotations

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.payments.presenting import STATUS_OF_STATE, Topup, as_topup
from geopera_server.domains.payments.store import wallets
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped


class TopupsListInput(BaseModel):
    """Which page, and which top-ups; without status all."""

    status: str | None = None
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


class Topups(TypedDict):
    """A page of purchases, newest first."""

    topups: list[Topup]
    total: int
    limit: int
    offset: int


@operation(
    "billing.topups.list",
    effect="read",
    scope="billing:read",
    raw=True,
    extension=True,
    snapshot=True,
    example={"status": "succeeded"},
)
async def topups_list(ctx: Context, given: TopupsListInput) -> Topups:
    """Lists your organization's purchases of credits by card, newest first."""
    states = [state for state, status in STATUS_OF_STATE.items() if given.status in {None, status}]
    if not states:
        known = ", ".join(dict.fromkeys(STATUS_OF_STATE.values()))
        raise InvalidInput(
            f"There is no status {given.status!r}. Use one of: {known}.", loc=("status",), code="unknown_field_value"
        )
    limit = clamped(given.limit)
    rows = await wallets.newest_topups(ctx.conn, ctx.organization_id, states=states, limit=limit, offset=given.offset)
    return Topups(
        topups=[as_topup(row) for row in rows],
        total=await wallets.count_topups(ctx.conn, ctx.organization_id, states),
        limit=limit,
        offset=given.offset,
    )
