"""From rows to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.domains.orders import rules
from geopera_server.domains.orders.shapes import Order
from geopera_server.domains.pricing.rules import aud


def as_order(row: Mapping[str, Any]) -> Order:
    """Returns an order as its organization sees it."""
    return Order(
        id=row["id"],
        displayName=row["display_name"],
        status=row["status"],
        subStatus=row["sub_status"],
        providerStatus=rules.marketplace_status(row["status"], row["sub_status"]),
        type=row["type"].upper(),
        orderType=row["type"],
        workspaceId=row["project_id"],
        projectId=row["project_id"],
        accountId=row["organization_id"],
        organizationId=row["organization_id"],
        dataProductId=row["data_product_id"],
        tags=row["tags"],
        billingMode=row["billing_mode"],
        currency="AUD",
        totalAud=aud(row["total_credits"]),
        totalCredits=row["total_credits"],
        reservedCredits=row["reserved_credits"],
        settledCredits=row["settled_credits"],
        licenseType=row["license_type"],
        groups=row["groups"],
        orderDetails=_details(row),
        itemIds=row["item_ids"],
        assets=row["asset_ids"],
        collectionId=row["collection_id"],
        estimatedDelivery=row["estimated_delivery"],
        cancellable=rules.cancellable(row["status"], row["sub_status"]),
        failureReason=row["failure_reason"],
        failureDetails=row["failure_details"],
        createdBy=row["created_by"],
        createdAt=row["created_at"],
        updatedAt=row["updated_at"],
        fulfilledAt=row["fulfilled_at"],
        cancelledAt=row["cancelled_at"],
    )


def _details(row: Mapping[str, Any]) -> dict[str, Any]:
    capture_ids = row["capture_ids"]
    sub_status = row["sub_status"]
    return {
        "aoi": row["aoi"],
        "imageId": capture_ids[0] if capture_ids else None,
        "subStatus": sub_status.upper() if sub_status else None,
    }


def as_event_data(order: Order) -> dict[str, Any]:
    """Returns what subscribers are told of an order: all but the captures inside its groups."""
    groups = [{key: value for key, value in group.items() if key != "captures"} for group in order["groups"]]
    return {**order, "groups": groups}


STATE_FIELDS = (
    "id", "organization_id", "project_id", "type", "status", "display_name", "billing_mode", "total_credits", "license_type",
    "failure_reason",
)  # fmt: skip


def order_state(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of an order that its lineage vouches for; `tags` and `sub_status` are labels and not part of it."""
    return {name: row[name] for name in STATE_FIELDS} | {"groups": row["groups"]}
