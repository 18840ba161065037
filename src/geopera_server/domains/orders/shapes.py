"""The shapes that order operations answer with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from typing_extensions import TypedDict


class PricedCapture(TypedDict):
    """One capture inside a priced group; its geometry is what of the AOI it shows."""

    id: str
    host: str
    collection: str
    datetime: str
    cloudCover: float | None
    resolution: str
    geometry: dict[str, Any]
    areaSqkm: float


class GroupMoney(TypedDict):
    """What a group costs, and why."""

    billableAreaSqkm: float
    minimumAreaSqkm: float
    pricePerSqkm: float
    licenseFactor: float
    priceRuleId: str | None
    totalAud: float
    totalCredits: int


class PriceGroup(GroupMoney):
    """Captures that are priced together; the same object in estimates, replies to orders, and orders."""

    groupId: str
    index: int
    name: str | None
    host: str
    vendor: str
    collection: str
    dataProductId: str | None
    resolution: str
    date: str | None
    captureIds: list[str]
    captures: list[PricedCapture]
    geometry: dict[str, Any]
    areaSqkm: float
    licenseType: str
    eula: dict[str, Any] | None


class Order(TypedDict):
    """An order as its organization sees it."""

    id: str
    displayName: str
    status: str
    subStatus: str | None
    providerStatus: str
    type: str
    orderType: str
    workspaceId: str
    projectId: str
    accountId: str
    organizationId: str
    dataProductId: str | None
    tags: list[str]
    billingMode: str
    currency: str
    totalAud: float
    totalCredits: int
    reservedCredits: int
    settledCredits: int
    licenseType: str
    groups: list[PriceGroup]
    orderDetails: dict[str, Any]
    itemIds: list[str]
    assets: list[str]
    collectionId: str | None
    estimatedDelivery: datetime | None
    cancellable: bool
    failureReason: str | None
    failureDetails: dict[str, Any] | None
    createdBy: str | None
    createdAt: datetime
    updatedAt: datetime
    fulfilledAt: datetime | None
    cancelledAt: datetime | None


class OrderEvent(TypedDict):
    """One thing that happened to an order."""

    at: datetime
    type: str
    status: str
    subStatus: str | None
    actor_type: str
    note: str | None
    data: dict[str, Any]


class OrderEvents(TypedDict):
    """An order's history, oldest first."""

    orderId: str
    events: list[OrderEvent]


class DeliveredFeatures(TypedDict):
    """Delivered items as STAC features."""

    type: str
    features: list[dict[str, Any]]
    numberMatched: int
    numberReturned: int
    links: list[dict[str, Any]]
