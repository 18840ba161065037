"""Estimating and placing archive orders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import shapely
from psycopg.types.json import Jsonb
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.alias_generators import to_camel
from shapely.geometry.base import BaseGeometry
from typing_extensions import TypedDict

from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture
from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items.access import require_collection_in
from geopera_server.domains.orders import cart, rules, store
from geopera_server.domains.orders.cart import CartLine, LineError, PricedLine, Quote
from geopera_server.domains.orders.presenting import as_event_data, as_order, order_state
from geopera_server.domains.orders.shapes import PriceGroup
from geopera_server.domains.orders.wanted import CaptureInput, check_licenses, check_tags, find_all, read_cart
from geopera_server.domains.payments.funding import Funded, Mode, Outlook, fund, outlook
from geopera_server.domains.pricing.book import price_book
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, InvalidInput, issue
from geopera_server.kernel.geometry import read_geometry, to_geojson
from geopera_server.kernel.operation import operation
from geopera_server.values.clock import iso
from geopera_server.values.ids import new_id

MOST_CREDITS = 2**53

_EXAMPLE_CAPTURE = {
    "id": "CARPATHIA_RO_20200712",
    "host": "carpathia-archive",
    "geometry": {
        "type": "Polygon",
        "coordinates": [[[22.148, 45.203], [22.156, 45.203], [22.156, 45.207], [22.148, 45.207], [22.148, 45.203]]],
    },
}


class ArchiveEstimateInput(BaseModel):
    """The cart to price."""

    model_config = ConfigDict(populate_by_name=True)

    captures: list[CaptureInput] = Field(
        default_factory=list, min_length=1, max_length=rules.MAX_CAPTURES, validate_default=True
    )
    split_by_date: bool | None = Field(False, alias="splitByDate")
    license_type: str | None = Field(None, alias="licenseType")


class ArchiveEstimateOutput(BaseModel):
    """The price of a cart, in both spellings of its totals."""

    model_config = ConfigDict(extra="allow")

    groups: list[PriceGroup] = Field(default_factory=list)
    errors: list[dict[str, Any]] = Field(default_factory=list)
    total_aud: float = 0.0
    total_credits: int = 0


@operation(
    "orders.archive.estimate",
    effect="read",
    scope="orders:read",
    example={"captures": [_EXAMPLE_CAPTURE]},
)
async def archive_estimate(outside: Outside, given: ArchiveEstimateInput) -> ArchiveEstimateOutput:
    """Prices a cart of captures without storing anything.

    Captures that cannot be priced are listed in `errors`; the others are totalled all the same.
    """
    lines = read_cart(given.captures, default_license=given.license_type or "standard")
    found = await find_all(outside, given.captures)
    async with outside.connection() as conn:
        book = await price_book(conn, outside.organization_id)
        check_licenses(lines, book.license_types())
        priced = cart.quote(book, lines, found, split_by_date=bool(given.split_by_date))
        meets = await outlook(conn, outside.organization_id, priced.total_credits)
    return ArchiveEstimateOutput.model_validate(
        {
            "groups": priced.groups,
            "errors": [error.as_json() for error in priced.errors],
            "total_aud": priced.total_aud,
            "total_credits": priced.total_credits,
            "totalAud": priced.total_aud,
            "totalCredits": priced.total_credits,
            "currency": "AUD",
            "billingMode": _mode_of(meets),
            "availableCredits": meets.balance,
            "shortfallCredits": meets.shortfall_credits,
        }
    )


def _mode_of(meets: Outlook) -> Mode:
    if meets.billing_mode == "enterprise":
        return "enterprise"
    return "card" if meets.shortfall_credits and meets.has_card else "credit"


class ArchivePlaceInput(BaseModel):
    """An archive order: captures with a project, or a data product with features and image ids in its parameters."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    project_id: str = Field(
        validation_alias=AliasChoices("projectId", "project_id", "workspaceId", "workspace_id"), serialization_alias="projectId"
    )
    captures: list[CaptureInput] = Field(default_factory=list, max_length=rules.MAX_CAPTURES)
    display_name: str | None = Field(None, max_length=300)
    license_type: str = "standard"
    split_by_date: bool = False
    tags: list[str] | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    target_collection_id: str | None = None
    expected_total_credits: int | None = Field(None, ge=-MOST_CREDITS, le=MOST_CREDITS)
    max_total_credits: int | None = Field(None, ge=-MOST_CREDITS, le=MOST_CREDITS)
    data_product: str | None = None
    feature_collection: dict[str, Any] | None = None

    @field_validator("tags")
    @classmethod
    def _tags_fit(cls, tags: list[str] | None) -> list[str] | None:
        return None if tags is None else check_tags(tags)

    def cart(self) -> list[CaptureInput]:
        """Returns the captures, taken from the parameters' image ids in the marketplace form."""
        if self.captures:
            return self.captures
        ids = self.params.get("ids") or self.params.get("imageIds") or [self.params.get("id")]
        wanted = [str(each) for each in (ids if isinstance(ids, list) else [ids]) if each]
        if not wanted:
            raise InvalidInput("The cart is empty: give at least one capture with its id.", loc=("captures",))
        if len(wanted) > rules.MAX_CAPTURES:
            raise InvalidInput(f"One order holds at most {rules.MAX_CAPTURES} captures.", loc=("params",))
        host, _, collection = (self.data_product or "").rpartition("/")
        area = self._area()
        try:
            captures = [CaptureInput(id=each, host=host or None, collection=collection or None) for each in wanted]
        except ValidationError as error:
            raise InvalidInput("The data product or an image id is too long.", loc=("params",)) from error
        for capture in captures:
            capture.geometry = area  # the same object for all, so that it is read once
        return captures

    def _area(self) -> dict[str, Any] | None:
        """Returns the area of all features together; nothing sent means the whole footprints."""
        given = self.feature_collection
        if not given:
            return None
        loc = ("featureCollection",)
        if given.get("type") != "FeatureCollection":
            return to_geojson(read_geometry(given, loc=loc))
        features = given.get("features")
        if not isinstance(features, list):
            raise InvalidInput("A feature collection has a list of features.", loc=loc, code="invalid_geometry")
        areas = [read_geometry(feature, loc=(*loc, "features", index)) for index, feature in enumerate(features)]
        return to_geojson(shapely.union_all(areas)) if areas else None


class ArchivePlaceOutput(TypedDict):
    """A placed order."""

    id: str
    status: str
    orderType: str
    billingMode: str
    currency: str
    totalAud: float
    totalCredits: int
    groups: list[PriceGroup]
    subStatus: str | None
    projectId: str
    displayName: str
    tags: list[str]
    licenseType: str
    createdAt: str
    warnings: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Looked:
    """What the hosts said about the cart before the transaction began."""

    lines: list[CartLine]
    found: list[FoundCapture | CaptureProblem]


async def look_up_cart(outside: Outside, given: ArchivePlaceInput) -> Looked:
    """Asks the hosts about the captures, once it is clear that the caller may order into the project."""
    async with outside.connection() as conn:
        await require_project_write(conn, outside.principal, given.project_id)
    captures = given.cart()
    return Looked(read_cart(captures, default_license=given.license_type), await find_all(outside, captures))


@operation(
    "orders.archive.place",
    effect="external_spend",
    scope="orders:write",
    produces=("order",),
    status=202,
    free_form=True,
    prepare=look_up_cart,
    rate_class="placement",
    example={"projectId": "0192d3c4-0000-7000-8000-000000000000", "captures": [_EXAMPLE_CAPTURE]},
)
async def archive_place(ctx: Context, given: ArchivePlaceInput, looked: Looked) -> ArchivePlaceOutput:
    """Places an archive order: reserves its credits and queues its delivery.

    All or nothing: a capture that cannot be priced refuses the order. Send an Idempotency-Key, so that a repeat after a lost
    answer finds the order that was made instead of making a second one.
    """
    project_id = await require_project_write(ctx.conn, ctx.principal, given.project_id, new_data=True)
    if given.target_collection_id is not None:
        await require_collection_in(ctx.conn, project_id, given.target_collection_id)
    priced = await _price(ctx, given, looked)
    row = await _insert(ctx, given, project_id, priced)
    funded = await fund(ctx, credits_needed=priced.total_credits, project_id=project_id, order_id=row["id"])
    row = await _as_funded(ctx, row, funded)
    ctx.lineage.edge(("order", row["id"]), state=order_state(row), parents=_parents(priced))
    order = as_order(row)
    ctx.emit("order.created", ("order", row["id"]), as_event_data(order), project_id=project_id)
    if all(rules.deliverable_assets(line.found.assets) for lines in priced.lines for line in lines):
        ctx.enqueue("orders.fulfil", row["id"])
    crash_point("place-before-commit")
    return ArchivePlaceOutput(
        id=order["id"],
        status=order["status"],
        orderType=order["orderType"],
        billingMode=order["billingMode"],
        currency=order["currency"],
        totalAud=order["totalAud"],
        totalCredits=order["totalCredits"],
        groups=priced.groups,
        subStatus=order["subStatus"],
        projectId=order["projectId"],
        displayName=order["displayName"],
        tags=order["tags"],
        licenseType=order["licenseType"],
        createdAt=iso(ctx.now),
        warnings=[],
    )


async def _price(ctx: Context, given: ArchivePlaceInput, looked: Looked) -> Quote:
    book = await price_book(ctx.conn, ctx.organization_id)
    check_licenses(looked.lines, book.license_types())
    priced = cart.quote(book, looked.lines, looked.found, split_by_date=given.split_by_date)
    if priced.errors:
        raise InvalidInput.of([_issue_of(error) for error in priced.errors])
    total = priced.total_credits
    if given.expected_total_credits is not None and given.expected_total_credits != total:
        raise _price_changed(f"The price is {total:,} credits, not {given.expected_total_credits:,}.", total)
    if given.max_total_credits is not None and total > given.max_total_credits:
        raise _price_changed(f"The price is {total:,} credits, over the maximum of {given.max_total_credits:,}.", total)
    return priced


def _issue_of(error: LineError) -> dict[str, Any]:
    return issue(error.message, loc=("captures", error.index), kind=error.code)


def _price_changed(what: str, total_credits: int) -> Conflict:
    return Conflict(f"{what} Estimate again and confirm the new price.", code="price_changed", totalCredits=total_credits)


async def _insert(ctx: Context, given: ArchivePlaceInput, project_id: str, priced: Quote) -> dict[str, Any]:
    hosts = [group["host"] for group in priced.groups]
    licenses = {group["licenseType"] for group in priced.groups}
    areas = [line.line.aoi for lines in priced.lines for line in lines if line.line.aoi is not None]
    row: dict[str, Any] = {
        "id": new_id(),
        "organization_id": ctx.organization_id,
        "project_id": project_id,
        "type": "archive",
        "status": "processing",
        "sub_status": "awaiting_data",
        "display_name": given.display_name or rules.default_name(hosts, ctx.now),
        "tags": given.tags or [],
        "billing_mode": "credit",
        "total_credits": priced.total_credits,
        "reserved_credits": priced.total_credits,
        "license_type": licenses.pop() if len(licenses) == 1 else given.license_type,
        "params": given.params,
        "data_product_id": given.data_product,
        "aoi": to_geojson(shapely.union_all(areas)) if areas else None,
        "target_collection_id": given.target_collection_id,
        "created_by": ctx.principal.user_id,
        "created_by_type": ctx.principal.kind,
        "created_at": ctx.now,
        "updated_at": ctx.now,
        "groups": priced.groups,
        "capture_ids": [line.found.id for line in priced.lines_in_order()],
        **store.NEW_ORDER,
    }
    async with ctx.conn.pipeline():
        await store.insert_order(ctx.conn, row)
        for group, lines in zip(priced.groups, priced.lines, strict=True):
            await _insert_group(ctx, row["id"], group, lines)
        await store.insert_event(
            ctx.conn,
            row,
            at=ctx.now,
            kind="order.created",
            actor=ctx.principal.kind,
            note=None,
            data={"totalCredits": priced.total_credits},
        )
    return row


async def _as_funded(ctx: Context, row: dict[str, Any], funded: Funded) -> dict[str, Any]:
    """Returns the order as it was paid for; it was written as paid from the balance, as most are."""
    if funded.mode == row["billing_mode"]:
        return row
    await store.set_billing_mode(ctx.conn, ctx.organization_id, row["id"], funded.mode)
    reserved = 0 if funded.mode == "enterprise" else row["reserved_credits"]
    return {**row, "billing_mode": funded.mode, "reserved_credits": reserved}


async def _insert_group(ctx: Context, order_id: str, group: PriceGroup, lines: Sequence[PricedLine]) -> None:
    group_id = new_id()
    owned = {"order_id": order_id, "organization_id": ctx.organization_id}
    await store.insert_group(
        ctx.conn,
        {**owned, "id": group_id, "position": group["index"], "credits": group["totalCredits"], "priced": Jsonb(group)},
    )
    for line in lines:
        capture = {
            **owned,
            "group_id": group_id,
            "position": line.line.index,
            "host": line.found.host,
            "capture_id": line.found.id,
            "aoi": None if line.line.aoi is None else Jsonb(to_geojson(line.line.aoi)),
            "found": Jsonb(line.found.as_json()),
        }
        await store.insert_capture(ctx.conn, capture)


def _parents(priced: Quote) -> list[tuple[str, str]]:
    lines = [line for lines in priced.lines for line in lines]
    captures = [rules.capture_node(line.found.host, line.found.id) for line in lines]
    areas: list[BaseGeometry] = [line.covered if line.line.aoi is None else line.line.aoi for line in lines]
    return list(dict.fromkeys([*captures, *(("aoi", cart.aoi_id(area)) for area in areas)]))
