"""What the worker does to an order, as operations like any other: registering a delivery, and giving up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.types.json import Jsonb
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.catalog.captures import FoundCapture
from geopera_server.domains.commitments.alerts import notice_delivery
from geopera_server.domains.items.registration import NewAsset, NewItem, ensure_order_collection, register_item
from geopera_server.domains.orders import rules, store
from geopera_server.domains.orders.cart import share_of
from geopera_server.domains.orders.operations.reading import order_row
from geopera_server.domains.orders.presenting import as_event_data, as_order, order_state
from geopera_server.domains.visualization.profiles import auto_profiles
from geopera_server.kernel.context import Context
from geopera_server.kernel.crashing import crash_point
from geopera_server.kernel.errors import Conflict, NotFound
from geopera_server.kernel.jobs import finish, progressed, require_lease
from geopera_server.kernel.operation import operation
from geopera_server.ledger import accruals, postings

IN_PROGRESS = frozenset({"processing", "fulfilling"})


class DeliveredCapture(BaseModel):
    """One capture's files, in storage already."""

    order_id: str
    job_id: str
    attempt: int
    position: int
    assets: list[dict[str, Any]]


class DeliveryOutcome(TypedDict):
    """What the order has become."""

    orderId: str
    status: str


@operation(
    "orders.delivery.register", effect="compute", scope="admin:write", produces=("item", "order"), raw=True, internal=True
)
async def register(ctx: Context, given: DeliveredCapture) -> DeliveryOutcome:
    """Registers the files of one capture as an item, and settles its group once the group is complete."""
    order = await _open_order(ctx, given.order_id)
    await require_lease(ctx.conn, given.job_id, given.attempt)
    captures = await store.captures_of(ctx.conn, ctx.organization_id, given.order_id)
    capture = next((each for each in captures if each["position"] == given.position), None)
    if capture is None or capture["delivered_at"] is not None:
        raise Conflict(f"Capture {given.position} of this order was delivered before.", code="illegal_state")
    before = order_state(order)
    collection_id = order["target_collection_id"] or await ensure_order_collection(
        ctx, project_id=order["project_id"], order_id=order["id"], name=order["display_name"]
    )
    item = await register_item(
        ctx,
        _new_item(order, capture, collection_id),
        [NewAsset(**asset) for asset in given.assets],
        parents=[("order", order["id"]), rules.capture_node(capture["host"], capture["capture_id"])],
    )
    await auto_profiles(ctx, item, given.assets)
    await progressed(ctx.conn, given.job_id, given.attempt)
    await store.mark_delivered(ctx.conn, ctx.organization_id, order["id"], given.position, item_id=item["id"], at=ctx.now)
    waiting = [each for each in captures if each["delivered_at"] is None and each["position"] != given.position]
    await _settle_group(ctx, order, capture, complete=not any(each["group_id"] == capture["group_id"] for each in waiting))
    outcome = await _advance(ctx, order, collection_id, done=not waiting)
    if not waiting:
        await finish(ctx.conn, given.job_id, given.attempt)
    ctx.lineage.event(("order", order["id"]), before=before, after=order_state(outcome))
    crash_point("delivery-before-commit")
    return DeliveryOutcome(orderId=order["id"], status=outcome["status"])


async def _open_order(ctx: Context, order_id: str) -> dict[str, Any]:
    """Returns the order, locked before anything else as cancelling does; raises Conflict when it has ended."""
    locked = await store.lock_order(ctx.conn, ctx.organization_id, order_id)
    if locked is None:
        raise NotFound("order")
    if locked["status"] not in IN_PROGRESS:
        raise Conflict(f"The order is {locked['status']}.", code="illegal_state")
    return await order_row(ctx, order_id)


def _new_item(order: Mapping[str, Any], capture: Mapping[str, Any], collection_id: str) -> NewItem:
    found = FoundCapture.from_json(capture["found"])
    group = order["groups"][capture["group_position"]]
    priced = next(each for each in group["captures"] if (each["host"], each["id"]) == (found.host, found.id))
    return NewItem(
        project_id=order["project_id"],
        collection_id=collection_id,
        order_id=order["id"],
        stac_id=found.id,
        type="satellite_capture",
        name=found.id,
        datetime=found.captured_at,
        geometry=priced["geometry"],
        gsd=found.gsd,
        cloud_cover=found.cloud_cover,
        properties=_properties(found, group["licenseType"]),
    )


_KEPT_PROPERTIES = (
    "platform",
    "constellation",
    "instruments",
    "attribution",
    "view:off_nadir",
    "view:sun_elevation",
    "view:azimuth",
)


def _properties(found: FoundCapture, license_type: str) -> dict[str, Any]:
    kept = {name: found.properties[name] for name in _KEPT_PROPERTIES if found.properties.get(name) is not None}
    return {
        **kept,
        "license": found.license,
        "geopera:host": found.host,
        "geopera:vendor": found.vendor,
        "geopera:capture_id": found.id,
        "geopera:license_type": license_type,
    }


async def _settle_group(ctx: Context, order: Mapping[str, Any], capture: Mapping[str, Any], *, complete: bool) -> None:
    if not complete or not await store.mark_settled(ctx.conn, ctx.organization_id, capture["group_id"], ctx.now):
        return
    hold = await postings.hold_of(ctx.conn, ctx.organization_id, order_id=order["id"])
    if hold is not None:
        await postings.settle(
            ctx.conn,
            postings.cause_of(ctx, project_id=order["project_id"]),
            hold_id=hold["id"],
            order_id=order["id"],
            credits_settled=capture["group_credits"],
            external_ref=f"group:{capture['group_id']}",
        )


async def _advance(ctx: Context, order: Mapping[str, Any], collection_id: str, *, done: bool) -> dict[str, Any]:
    """Moves the order on, tells its history and its subscribers, and returns it as it is now."""
    status, sub_status = ("fulfilled", None) if done else ("fulfilling", "delivering")
    state = {"status": status, "sub_status": sub_status, "at": ctx.now, "collection_id": collection_id}
    await store.set_state(ctx.conn, ctx.organization_id, order["id"], state)
    if done:
        await accruals.make_billable(ctx.conn, ctx.organization_id, order_id=order["id"], at=ctx.now)
    row = await order_row(ctx, order["id"])
    if done:
        await notice_delivery(ctx, row)
    kind = "order.fulfilled" if done else "order.partially_fulfilled"
    await store.insert_event(
        ctx.conn, row, at=ctx.now, kind=kind, actor="service", note=None, data={"items": len(row["item_ids"])}
    )
    ctx.emit(kind, ("order", row["id"]), as_event_data(as_order(row)), project_id=row["project_id"])
    return row


async def _settle_parts(ctx: Context, order: Mapping[str, Any]) -> int:
    """Settles the delivered part of each unfinished group, and returns what all that was delivered costs."""
    delivered: dict[int, list[Mapping[str, Any]]] = {}
    for capture in await store.captures_of(ctx.conn, ctx.organization_id, order["id"]):
        if capture["delivered_at"] is not None:
            delivered.setdefault(capture["group_position"], []).append(capture)
    total = 0
    for position, captures in delivered.items():
        ids = {(capture["host"], capture["capture_id"]) for capture in captures}
        due = captures[0]["group_credits"] if captures[0]["group_settled_at"] else share_of(order["groups"][position], ids)
        await _settle_group(ctx, order, {**captures[0], "group_credits": due}, complete=True)
        total += due
    return total


class FailedDelivery(BaseModel):
    """Why an order cannot be delivered."""

    order_id: str
    job_id: str
    attempt: int
    reason: str
    details: dict[str, Any]


@operation("orders.delivery.fail", effect="compute", scope="admin:write", produces=("order",), raw=True, internal=True)
async def fail(ctx: Context, given: FailedDelivery) -> DeliveryOutcome:
    """Ends an order that cannot be delivered: what was delivered is paid, what is still reserved is given back.

    A group of which only a part was delivered is paid by the share of its area that the part covers.
    """
    order = await _open_order(ctx, given.order_id)
    await require_lease(ctx.conn, given.job_id, given.attempt)
    delivered_credits = await _settle_parts(ctx, order)
    released = await postings.release_rest(
        ctx.conn, postings.cause_of(ctx, project_id=order["project_id"]), order_id=order["id"]
    )
    await accruals.make_billable(ctx.conn, ctx.organization_id, order_id=order["id"], credits_due=delivered_credits, at=ctx.now)
    await store.set_state(
        ctx.conn,
        ctx.organization_id,
        order["id"],
        {
            "status": "failed",
            "sub_status": None,
            "at": ctx.now,
            "failure_reason": given.reason,
            "failure_details": Jsonb({**given.details, "releasedCredits": released}),
        },
    )
    row = await order_row(ctx, order["id"])
    await notice_delivery(ctx, row)
    await store.insert_event(
        ctx.conn, row, at=ctx.now, kind="order.failed", actor="service", note=given.reason, data={"releasedCredits": released}
    )
    ctx.lineage.event(("order", order["id"]), before=order_state(order), after=order_state(row))
    ctx.emit("order.failed", ("order", row["id"]), as_event_data(as_order(row)), project_id=row["project_id"])
    await finish(ctx.conn, given.job_id, given.attempt)
    return DeliveryOutcome(orderId=row["id"], status=row["status"])
