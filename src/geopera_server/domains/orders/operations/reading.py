"""Reading, labelling and cancelling orders."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from geopera_server.domains.identity.access import require_project_write
from geopera_server.domains.items.delivered import stac_features_of_order
from geopera_server.domains.orders import rules, store
from geopera_server.domains.orders.presenting import as_event_data, as_order, order_state
from geopera_server.domains.orders.shapes import (
    DeliveredFeatures,
    Order,
    OrderEvent,
    OrderEvents,
)
from geopera_server.domains.orders.wanted import check_tags
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.jobs import cancel_for
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_PAGE_SIZE, PageOf, clamped, page_of, sort_of
from geopera_server.ledger import accruals, postings
from geopera_server.ledger.reading import balance_of

FULFIL = "orders.fulfil"


class OrderGetInput(BaseModel):
    """Which order."""

    order_id: str


class OrderCancelInput(OrderGetInput):
    """Which order to cancel."""


class OrderAssetsInput(OrderGetInput):
    """Which order's deliveries."""


class OrderEventsInput(OrderGetInput):
    """Which order's history."""


async def order_row(ctx: Context, order_id: str) -> dict[str, Any]:
    """Returns an order of the caller's organization; raises NotFound."""
    row = await store.order_of(ctx.conn, ctx.organization_id, order_id)
    if row is None:
        raise NotFound("order")
    ctx.touch("order", row["id"])
    return row


_EXAMPLE = {"order_id": "0192d3c4-0000-7000-8000-000000000000"}


@operation("orders.get", effect="read", scope="orders:read", raw=True, aliases=("orders.archive.get",), example=_EXAMPLE)
async def get(ctx: Context, given: OrderGetInput) -> Order:
    """Returns one order with its priced groups, deliveries and figures."""
    return as_order(await order_row(ctx, given.order_id))


class OrdersListInput(BaseModel):
    """Filters over the organization's orders; lists are comma separated."""

    workspaceId: str | None = None  # noqa: N815  (the wire's names)
    displayName: str | None = None  # noqa: N815
    type: str | None = None
    status: str | None = None
    subStatus: str | None = None  # noqa: N815
    tags: str | None = None
    dataProductIds: str | None = None  # noqa: N815
    orderIds: str | None = None  # noqa: N815
    page: int = Field(0, ge=0, le=1_000_000)
    size: int = Field(20, ge=1)
    sort: str = "createdAt,desc"


@operation(
    "orders.list", effect="read", scope="orders:read", raw=True, snapshot=True, example={"status": "processing", "size": 10}
)
async def list_(ctx: Context, given: OrdersListInput) -> PageOf[Order]:
    """Lists the organization's orders page by page; filters take native and marketplace words."""
    size = clamped(given.size, MAX_PAGE_SIZE)
    filters = {"organization_id": ctx.organization_id, **_filters(given)}
    sort = sort_of(given.sort, store.SORT_FIELDS)
    total = await store.count_of(ctx.conn, filters)
    rows = await store.page_of(ctx.conn, filters, sort=sort, limit=size, offset=given.page * size)
    return page_of([as_order(row) for row in rows], total=total, number=given.page, size=size)


def _filters(given: OrdersListInput) -> dict[str, Any]:
    statuses, sub_statuses = _statuses(given.status)
    return {
        "project_id": given.workspaceId,
        "name": given.displayName or None,
        "type": given.type.lower() if given.type else None,
        "statuses": statuses,
        "sub_statuses": sub_statuses,
        "sub_status": given.subStatus.lower() if given.subStatus else None,
        "tags": _words(given.tags),
        "products": _words(given.dataProductIds),
        "ids": _words(given.orderIds),
    }


def _words(text: str | None) -> list[str] | None:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    return words or None


def _statuses(text: str | None) -> tuple[list[str] | None, list[str]]:
    statuses: list[str] = []
    sub_statuses: list[str] = []
    for word in _words(text) or []:
        conditions = rules.status_conditions(word)
        if conditions is None:
            known = ", ".join((*rules.NATIVE_STATUSES, *rules.MARKETPLACE_TO_NATIVE))
            raise InvalidInput(
                f"There is no order status {word!r}. Use one of: {known}.", loc=("status",), code="unknown_field_value"
            )
        for column, value in conditions:
            (statuses if column == "status" else sub_statuses).append(value)
    return (statuses if statuses or sub_statuses else None), sub_statuses


class OrderUpdateInput(OrderGetInput):
    """New tags; null clears them, leaving them out changes nothing."""

    tags: list[str] | None = None

    @field_validator("tags")
    @classmethod
    def _tags_fit(cls, tags: list[str] | None) -> list[str] | None:
        return None if tags is None else check_tags(tags)


class OrderUpdateOutput(BaseModel):
    """The order after the change."""

    model_config = ConfigDict(extra="allow")


@operation("orders.update", effect="compute", scope="orders:write", example={**_EXAMPLE, "tags": ["spring", "forest"]})
async def update(ctx: Context, given: OrderUpdateInput) -> OrderUpdateOutput:
    """Replaces the tags of an order."""
    row = await order_row(ctx, given.order_id)
    await require_project_write(ctx.conn, ctx.principal, row["project_id"])
    if "tags" in given.model_fields_set:
        await store.set_tags(ctx.conn, ctx.organization_id, given.order_id, given.tags or [], ctx.now)
        row = await order_row(ctx, given.order_id)
        ctx.emit("order.updated", ("order", row["id"]), as_event_data(as_order(row)), project_id=row["project_id"])
    return OrderUpdateOutput.model_validate(as_order(row))


class OrderCancelOutput(BaseModel):
    """What cancelling gave back."""

    model_config = ConfigDict(extra="allow")

    orderId: str  # noqa: N815  (the wire's name)
    status: str


@operation(
    "orders.cancel",
    effect="external_spend",
    scope="orders:write",
    produces=("order",),
    while_past_due=True,
    while_leaving=True,
    example=_EXAMPLE,
)
async def cancel(ctx: Context, given: OrderCancelInput) -> OrderCancelOutput:
    """Cancels an order while that is free, and releases what was reserved for it.

    Free until production is confirmed or anything has been delivered; afterwards the order stays as it is.
    """
    locked = await store.lock_order(ctx.conn, ctx.organization_id, given.order_id)
    if locked is None:
        raise NotFound("order")
    await require_project_write(ctx.conn, ctx.principal, locked["project_id"])
    if not rules.cancellable(locked["status"], locked["sub_status"]):
        state = locked["status"] if locked["sub_status"] is None else f"{locked['status']} ({locked['sub_status']})"
        raise Conflict(f"The order is {state} and can no longer be cancelled.", code="not_cancellable")
    before = order_state(await order_row(ctx, given.order_id))
    await cancel_for(ctx.conn, FULFIL, given.order_id)
    released = await postings.release_rest(
        ctx.conn, postings.cause_of(ctx, project_id=locked["project_id"]), order_id=given.order_id
    )
    await accruals.reverse(ctx.conn, ctx.organization_id, order_id=given.order_id, at=ctx.now)
    state = {"status": "cancelled", "sub_status": None, "at": ctx.now}
    await store.set_state(ctx.conn, ctx.organization_id, given.order_id, state)
    row = await order_row(ctx, given.order_id)
    await store.insert_event(
        ctx.conn,
        row,
        at=ctx.now,
        kind="order.cancelled",
        actor=ctx.principal.kind,
        note=None,
        data={"releasedCredits": released},
    )
    ctx.lineage.event(("order", row["id"]), before=before, after=order_state(row))
    ctx.emit("order.cancelled", ("order", row["id"]), as_event_data(as_order(row)), project_id=row["project_id"])
    return OrderCancelOutput.model_validate(
        {
            "orderId": row["id"],
            "status": "cancelled",
            "releasedCredits": released,
            "refundedCredits": 0,
            "balance": (await balance_of(ctx.conn, ctx.organization_id))["balance"],
            "providerStatus": "CANCELED",
        }
    )


@operation("orders.list_assets", effect="read", scope="items:read", raw=True, snapshot=True, example=_EXAMPLE)
async def list_assets(ctx: Context, given: OrderAssetsInput) -> DeliveredFeatures:
    """Returns what an order has delivered as STAC features with signed links; empty before delivery."""
    row = await order_row(ctx, given.order_id)
    features = await stac_features_of_order(ctx, row["id"])
    return DeliveredFeatures(
        type="FeatureCollection", features=features, numberMatched=len(features), numberReturned=len(features), links=[]
    )


@operation("orders.events.list", effect="read", scope="orders:read", raw=True, extension=True, example=_EXAMPLE)
async def events_list(ctx: Context, given: OrderEventsInput) -> OrderEvents:
    """Returns the history of an order, oldest first."""
    row = await order_row(ctx, given.order_id)
    events = await store.events_of(ctx.conn, ctx.organization_id, row["id"])
    return OrderEvents(
        orderId=row["id"],
        events=[
            OrderEvent(
                at=event["at"],
                type=event["type"],
                status=event["status"],
                subStatus=event["sub_status"],
                actor_type=event["actor_type"],
                note=event["note"],
                data=event["data"],
            )
            for event in events
        ],
    )
