"""What an organization reads of its commitments."""

from __future__ import annotations

from pydantic import BaseModel

from geopera_server.domains.commitments.burning import standing_of
from geopera_server.domains.commitments.presenting import as_commitment_row
from geopera_server.domains.commitments.shapes import Commitments, Statement
from geopera_server.domains.commitments.statements import statement_of
from geopera_server.domains.identity.access import own_organization
from geopera_server.domains.invoicing.periods import read_period
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.periods import month_of

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"


class CommitmentsListInput(BaseModel):
    """Which commitment, and whether to list the orders it covers."""

    commitment_id: str | None = None
    include_line_items: bool = False


@operation(
    "organizations.commitments.list",
    effect="read",
    scope="orders:read",
    raw=True,
    snapshot=True,
    example={"include_line_items": True},
)
async def commitments_list(ctx: Context, given: CommitmentsListInput) -> Commitments:
    """Lists your organization's commitments and how far each is used up."""
    standing = await standing_of(ctx.conn, ctx.organization_id)
    wanted = list(standing.commitments)
    if given.commitment_id is not None:
        wanted = [each for each in wanted if each == given.commitment_id.lower()]
        if not wanted:
            raise NotFound("commitment")
    shown = [as_commitment_row(standing, each, ctx.now, with_items=given.include_line_items) for each in wanted]
    return Commitments(commitments=shown, total=len(shown))


class StatementInput(BaseModel):
    """Whose statement, and of which month; the current one unless said."""

    organization_id: str
    period: str | None = None


@operation(
    "organizations.commitments.statement",
    effect="read",
    scope="billing:read",
    raw=True,
    snapshot=True,
    example={"organization_id": _EXAMPLE_ID, "period": "2026-03"},
)
async def commitments_statement(ctx: Context, given: StatementInput) -> Statement:
    """Lists what a month has delivered, what of it falls under commitments, and what is billed."""
    period = month_of(ctx.now) if given.period is None else read_period(given.period)
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id)
    return await statement_of(ctx.conn, organization_id, period, at=ctx.now)
