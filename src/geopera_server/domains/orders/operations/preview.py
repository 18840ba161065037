"""What an organization would pay, shown to an operator."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.domains.identity.access import own_organization
from geopera_server.domains.orders import cart, rules
from geopera_server.domains.orders.shapes import PriceGroup
from geopera_server.domains.orders.wanted import CaptureInput, find_all, read_cart
from geopera_server.domains.pricing.book import price_book
from geopera_server.kernel.context import Outside
from geopera_server.kernel.operation import operation


class PricingPreviewInput(BaseModel):
    """Whose prices, and for what."""

    organization_id: str
    captures: list[CaptureInput] = Field(min_length=1, max_length=rules.MAX_CAPTURES)
    license_type: str = "standard"


class PricingPreview(TypedDict):
    """The estimate that organization would see."""

    organization_id: str
    groups: list[PriceGroup]
    errors: list[dict[str, Any]]
    total_aud: float
    total_credits: int
    rule_ids: list[str]


@operation(
    "pricing.admin.preview",
    effect="read",
    scope="admin:read",
    raw=True,
    extension=True,
    example={"organization_id": "0192d3c4-0000-7000-8000-000000000000", "captures": [{"id": "a-scene", "host": "vantor"}]},
)
async def pricing_preview(outside: Outside, given: PricingPreviewInput) -> PricingPreview:
    """Shows the estimate another organization would get, with the rules it comes from."""
    lines = read_cart(given.captures, default_license=given.license_type)
    found = await find_all(outside, given.captures)
    async with outside.connection() as conn:
        await own_organization(conn, outside.principal, given.organization_id)
        book = await price_book(conn, given.organization_id)
    priced = cart.quote(book, lines, found, split_by_date=False)
    return PricingPreview(
        organization_id=given.organization_id,
        groups=priced.groups,
        errors=[error.as_json() for error in priced.errors],
        total_aud=priced.total_aud,
        total_credits=priced.total_credits,
        rule_ids=sorted({group["priceRuleId"] for group in priced.groups if group["priceRuleId"] is not None}),
    )
