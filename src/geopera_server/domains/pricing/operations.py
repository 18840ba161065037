"""Reading prices, and keeping the price book."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import own_organization
from geopera_server.domains.pricing import store
from geopera_server.domains.pricing.book import price_book
from geopera_server.domains.pricing.rules import PriceRule, first_overlap
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.values.ids import OrganizationId, new_id

_PLATFORM = {"organization_id": "platform"}


class PricingListInput(BaseModel):
    """Which rules; leaving out a filter lists all."""

    vendor: str | None = None
    capture_type: Literal["archive", "tasking"] | None = None


class EffectiveRule(TypedDict):
    """One band of a price that binds the caller's organization."""

    vendor: str
    resolution: str
    capture_type: str
    price_per_sqkm: float
    min_area: float
    max_area: float | None
    source: Literal["negotiated", "list"]


class PricingList(TypedDict):
    """The prices that bind the caller's organization."""

    rules: list[EffectiveRule]
    license_factors: dict[str, float]
    currency: str


@operation("pricing.list", effect="read", scope="orders:read", raw=True, extension=True, example={"vendor": "vantor"})
async def list_(ctx: Context, given: PricingListInput) -> PricingList:
    """Lists the prices that bind your organization: negotiated ones where there are any, else the list."""
    book = await price_book(ctx.conn, ctx.organization_id)
    binding = (rule for rule in book.rules if rule in book.bands(rule.vendor, rule.resolution, rule.capture_type))
    wanted = [
        rule for rule in binding if given.vendor in {None, rule.vendor} and given.capture_type in {None, rule.capture_type}
    ]
    return PricingList(
        rules=[_effective(rule) for rule in sorted(wanted, key=_order)],
        license_factors={name: float(factor) for name, factor in sorted(book.license_factors.items())},
        currency="AUD",
    )


def _order(rule: PriceRule) -> tuple[str, str, str, Decimal]:
    return rule.vendor, rule.resolution, rule.capture_type, rule.min_area_sqkm


def _effective(rule: PriceRule) -> EffectiveRule:
    return EffectiveRule(
        vendor=rule.vendor,
        resolution=rule.resolution,
        capture_type=rule.capture_type,
        price_per_sqkm=float(rule.price_per_sqkm_aud),
        min_area=float(rule.min_area_sqkm),
        max_area=None if rule.max_area_sqkm is None else float(rule.max_area_sqkm),
        source="negotiated" if rule.negotiated else "list",
    )


class PricingAdminListInput(BaseModel):
    """Whose book; `platform` is the list."""

    organization_id: str


class StoredRule(TypedDict):
    """One row of a price book."""

    id: str
    organization_id: str
    vendor: str
    resolution: str
    capture_type: str
    price_per_sqkm: float
    min_area: float
    max_area: float | None
    created_at: datetime
    updated_at: datetime
    updated_by: str | None


class StoredRules(TypedDict):
    """A price book's rows."""

    rules: list[StoredRule]
    total: int


@operation("pricing.admin.list", effect="read", scope="admin:read", raw=True, extension=True, example=_PLATFORM)
async def admin_list(ctx: Context, given: PricingAdminListInput) -> StoredRules:
    """Lists the rows of one organization's price book."""
    rows = await store.rows_of(ctx.conn, await _book_of(ctx, given.organization_id))
    return StoredRules(rules=[_stored(row) for row in rows], total=len(rows))


async def _book_of(ctx: Context, organization_id: str) -> OrganizationId:
    """Returns whose book is meant; raises NotFound for an organization that is not there."""
    whose = PLATFORM_ORGANIZATION_ID if organization_id == "platform" else organization_id
    return await own_organization(ctx.conn, ctx.principal, whose)


def _stored(row: Row) -> StoredRule:
    return StoredRule(
        id=row["id"],
        organization_id=row["organization_id"],
        vendor=row["vendor"],
        resolution=row["resolution"],
        capture_type=row["capture_type"],
        price_per_sqkm=float(row["price_per_sqkm_aud"]),
        min_area=float(row["min_area_sqkm"]),
        max_area=None if row["max_area_sqkm"] is None else float(row["max_area_sqkm"]),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        updated_by=row["updated_by"],
    )


class PricingSaveInput(BaseModel):
    """One band; with an id it replaces that row."""

    model_config = ConfigDict(allow_inf_nan=False)

    organization_id: str
    vendor: str = Field(min_length=1, max_length=200)
    resolution: str = Field(min_length=1, max_length=50)
    price_per_sqkm: Decimal = Field(ge=0, max_digits=12, decimal_places=4)
    capture_type: Literal["archive", "tasking"] = "archive"
    min_area: Decimal = Field(Decimal(0), ge=0, max_digits=12, decimal_places=4)
    max_area: Decimal | None = Field(None, max_digits=12, decimal_places=4)
    id: str | None = None

    @model_validator(mode="after")
    def _band_has_width(self) -> PricingSaveInput:
        if self.max_area is not None and self.max_area <= self.min_area:
            raise ValueError("max_area must be greater than min_area")
        return self


@operation(
    "pricing.admin.save",
    effect="compute",
    scope="admin:write",
    raw=True,
    extension=True,
    idempotent=True,
    example={**_PLATFORM, "vendor": "vantor", "resolution": "0.5m", "price_per_sqkm": 22, "min_area": 25},
)
async def admin_save(ctx: Context, given: PricingSaveInput) -> StoredRule:
    """Adds or replaces one band of a price; orders already placed keep theirs."""
    organization_id = await _book_of(ctx, given.organization_id)
    await store.lock_book(ctx.conn, organization_id)
    row: dict[str, Any] = {
        "id": given.id or new_id(),
        "organization_id": organization_id,
        "vendor": given.vendor,
        "resolution": given.resolution,
        "capture_type": given.capture_type,
        "price_per_sqkm_aud": given.price_per_sqkm,
        "min_area_sqkm": given.min_area,
        "max_area_sqkm": given.max_area,
        "updated_by": ctx.principal.id,
        "at": ctx.now,
    }
    book = [store.as_rule(each) for each in await store.rows_of(ctx.conn, organization_id)]
    if given.id is not None and not any(rule.id == given.id for rule in book):
        raise NotFound("price rule")
    if (other := first_overlap(book, store.as_rule(row))) is not None:
        end = "" if other.max_area_sqkm is None else other.max_area_sqkm
        raise Conflict(f"The band overlaps {other.min_area_sqkm}-{end} km² of rule {other.id}. Change that one, or this one.")
    saved = await store.save(ctx.conn, row)
    if saved is None:
        raise NotFound("price rule")
    ctx.touch("price_rule", saved["id"])
    return _stored(saved)


class PricingDeleteInput(BaseModel):
    """Which rule."""

    id: str


class Deleted(TypedDict):
    """What was removed."""

    id: str
    ok: bool


@operation(
    "pricing.admin.delete",
    effect="destructive",
    scope="admin:write",
    raw=True,
    extension=True,
    example={"id": "0192d3c4-0000-7000-8000-000000000000"},
)
async def admin_delete(ctx: Context, given: PricingDeleteInput) -> Deleted:
    """Removes one band of a price; orders already placed keep theirs."""
    if not await store.delete(ctx.conn, given.id):
        raise NotFound("price rule")
    ctx.touch("price_rule", given.id)
    return Deleted(id=given.id, ok=True)
