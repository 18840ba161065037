"""How operators keep the commitments of organizations."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, StringConstraints, field_validator, model_validator

from geopera_server.db.pool import Row
from geopera_server.domains.commitments import store
from geopera_server.domains.commitments.burning import Standing, as_commitment, standing_of
from geopera_server.domains.commitments.presenting import as_commitment_row
from geopera_server.domains.commitments.rules import ALERT_PERCENTS, Commitment, same_product_and_time
from geopera_server.domains.commitments.shapes import CommitmentRow, DeletedCommitment
from geopera_server.domains.pricing.rules import CREDITS_PER_AUD
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id, new_id

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"
_DAY = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}")
MOST_SQKM = 10**9

Sqkm = Annotated[Decimal, Field(decimal_places=4, allow_inf_nan=False)]
Product = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]


class CommitmentSaveInput(BaseModel):
    """What an organization promises: an amount at a rate per km², from the first day of the term to the last."""

    organization_id: str
    sqkm_amount: Sqkm = Field(gt=0, le=MOST_SQKM)
    rate_aud: Decimal = Field(ge=0, le=1_000_000, decimal_places=2, allow_inf_nan=False)
    start_date: str
    end_date: str
    products: list[Product] = Field(default_factory=list, max_length=200)
    id: str | None = None

    @field_validator("start_date", "end_date")
    @classmethod
    def _is_a_day(cls, text: str) -> str:
        if not _DAY.fullmatch(text):
            raise ValueError("give a day as YYYY-MM-DD")
        date.fromisoformat(text)
        return text

    @model_validator(mode="after")
    def _has_a_term(self) -> Self:
        if self.end_date < self.start_date:
            raise ValueError("end_date must not lie before start_date")
        return self

    def commitment(self, commitment_id: str) -> Commitment:
        """Returns what is to be saved."""
        return Commitment(
            id=commitment_id,
            sqkm_amount=self.sqkm_amount,
            rate_credits=int(self.rate_aud * CREDITS_PER_AUD),
            products=frozenset(self.products),
            start_date=date.fromisoformat(self.start_date),
            end_date=date.fromisoformat(self.end_date),
        )


@operation(
    "organizations.admin.commitments.save",
    effect="compute",
    scope="admin:write",
    extension=True,
    idempotent=True,
    example={
        "organization_id": _EXAMPLE_ID,
        "sqkm_amount": 1_000,
        "rate_aud": 12.5,
        "start_date": "2026-01-01",
        "end_date": "2026-12-31",
        "products": ["test-archive/ortho"],
    },
)
async def commitments_save(ctx: Context, given: CommitmentSaveInput) -> CommitmentRow:
    """Makes a commitment for an organization, or changes one by its id.

    Two commitments may not both take the same product on the same day. Once an invoice has billed under a commitment only its
    amount may grow and its end move out; once its shortfall is billed it stays as it is.
    """
    organization_id = given.organization_id
    if not is_id(organization_id) or not await store.lock_organization(ctx.conn, organization_id):
        raise NotFound("organization")
    others = {row["id"]: row for row in await store.commitments_of(ctx.conn, organization_id)}
    before = None if given.id is None else others.pop(given.id.lower(), None)
    if given.id is not None and before is None:
        raise NotFound("commitment")
    wanted = given.commitment(new_id() if before is None else before["id"])
    _check_overlap(wanted, list(others.values()))
    row: dict[str, Any] = {
        "id": wanted.id,
        "organization_id": organization_id,
        "sqkm_amount": wanted.sqkm_amount,
        "rate_credits": wanted.rate_credits,
        "products": list(dict.fromkeys(given.products)),
        "start_date": wanted.start_date,
        "end_date": wanted.end_date,
        "at": ctx.now,
    }
    if before is None:
        await store.insert_commitment(ctx.conn, row)
    else:
        _check_change(before, wanted)
        await store.update_commitment(ctx.conn, row)
    return await _changed(ctx, organization_id, wanted.id)


def _check_overlap(wanted: Commitment, others: list[Row]) -> None:
    for row in others:
        other = as_commitment(row)
        if same_product_and_time(wanted, other):
            raise Conflict(
                f"Commitment {other.id} takes the same product from {other.start_date} to {other.end_date}."
                " Choose other products or another term."
            )


def _check_change(before: Row, wanted: Commitment) -> None:
    if before["settled_invoice_id"] is not None:
        raise Conflict("The shortfall of this commitment is billed. Make a new one.", code="illegal_state")
    if not before["is_invoiced"]:
        return
    old = replace(as_commitment(before), adjusted_sqkm=Decimal(0))
    grown = replace(wanted, sqkm_amount=old.sqkm_amount, end_date=old.end_date)
    if grown != old or wanted.sqkm_amount < old.sqkm_amount or wanted.end_date < old.end_date:
        raise Conflict(
            "An invoice has billed under this commitment: its amount may grow and its end move out, nothing else."
            " Make the invoice void first, with billing.admin.invoices.set_status.",
            code="illegal_state",
        )


async def _changed(ctx: Context, organization_id: str, commitment_id: str) -> CommitmentRow:
    """Returns the commitment as it has become, ready to tell again of percentages it has fallen below."""
    standing = await standing_of(ctx.conn, organization_id)
    percent = standing.allotment.uses[commitment_id].percent
    if standing.commitments[commitment_id]["alerted_percent"] > percent:
        told = max((each for each in ALERT_PERCENTS if each <= percent), default=0)
        await store.set_alerted(ctx.conn, organization_id, commitment_id, told)
    ctx.touch("organization", organization_id)
    ctx.touch("commitment", commitment_id)
    return as_commitment_row(standing, commitment_id, ctx.now)


class CommitmentAdjustInput(BaseModel):
    """How much area to add to what is used, or with a minus to take from it."""

    commitment_id: str
    size_sqkm: Sqkm = Field(ge=-MOST_SQKM, le=MOST_SQKM)
    note: str = Field("Manual adjustment", min_length=1, max_length=1_000)

    @field_validator("size_sqkm")
    @classmethod
    def _moves_something(cls, size: Decimal) -> Decimal:
        if size == 0:
            raise ValueError("size_sqkm must not be 0")
        return size


@operation(
    "organizations.admin.commitments.adjust",
    effect="compute",
    scope="admin:write",
    extension=True,
    idempotent=True,
    example={"commitment_id": _EXAMPLE_ID, "size_sqkm": -2.5, "note": "Two scenes were unusable"},
)
async def commitments_adjust(ctx: Context, given: CommitmentAdjustInput) -> CommitmentRow:
    """Adds to the area that a commitment has used up, or takes from it.

    What is billed already stays; what is not is allotted anew.
    """
    organization_id, standing = await _locked(ctx, given.commitment_id)
    commitment_id = given.commitment_id.lower()
    if standing.commitments[commitment_id]["settled_invoice_id"] is not None:
        raise Conflict("The shortfall of this commitment is billed, and its burn-down closed.", code="illegal_state")
    used = standing.allotment.uses[commitment_id].consumed_sqkm
    if used + given.size_sqkm < 0:
        raise InvalidInput(f"Only {used} km² are used up. Take back at most that.", loc=("size_sqkm",))
    row = {
        "id": new_id(),
        "commitment_id": commitment_id,
        "organization_id": organization_id,
        "size_sqkm": given.size_sqkm,
        "note": given.note,
        "at": ctx.now,
        "principal_id": ctx.principal.id if ctx.principal.id is not None and is_id(ctx.principal.id) else None,
        "invocation_id": ctx.invocation_id,
    }
    await store.insert_adjustment(ctx.conn, row)
    return await _changed(ctx, organization_id, commitment_id)


async def _locked(ctx: Context, commitment_id: str) -> tuple[str, Standing]:
    """Returns whose commitment it is and where that organization stands, which nobody else changes meanwhile."""
    organization_id = await store.owner_of(ctx.conn, commitment_id) if is_id(commitment_id) else None
    if organization_id is None or not await store.lock_organization(ctx.conn, organization_id):
        raise NotFound("commitment")
    standing = await standing_of(ctx.conn, organization_id)
    if commitment_id.lower() not in standing.commitments:
        raise NotFound("commitment")
    return organization_id, standing


class CommitmentDeleteInput(BaseModel):
    """The commitment to delete."""

    id: str


@operation(
    "organizations.admin.commitments.delete",
    effect="destructive",
    scope="admin:write",
    extension=True,
    example={"id": _EXAMPLE_ID},
)
async def commitments_delete(ctx: Context, given: CommitmentDeleteInput) -> DeletedCommitment:
    """Deletes a commitment under which no invoice has billed; what it covered costs the orders' own prices again."""
    organization_id, standing = await _locked(ctx, given.id)
    commitment_id = given.id.lower()
    if standing.commitments[commitment_id]["is_invoiced"]:
        raise Conflict("An invoice has billed under this commitment, so it stays.", code="illegal_state")
    await store.delete_commitment(ctx.conn, organization_id, commitment_id, ctx.now)
    ctx.touch("organization", organization_id)
    ctx.touch("commitment", commitment_id)
    return DeletedCommitment(id=commitment_id, deleted=True)
