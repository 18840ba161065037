"""Bodies for calling every operation there is: what it documents, with ids that exist, and what nobody should send."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from geopera_server.kernel.operation import Operation
from geopera_server.values.clock import iso, now
from support.market import Market
from support.open_scenes import NAIP_ID, SAMPLE_ID, SHOWCASE, landsat_item, naip_item, open_showcase, sample_item, sentinel_item
from support.pictures import HEIGHTS, pictured_item

CALMEST_FIRST = ("read", "compute", "external_spend", "share_export", "destructive")

GARBAGE: dict[str, Any] = {
    "object": {"a": [{}]},
    "list": [[None]],
    "number": -1.5e300,
    "text": "'\"; --\\ %s {0} \u0131\ufffd\U0001f6f0",
    "boolean": True,
    "null": None,
}


def fitting(example: Any, known: Mapping[str, Any]) -> Any:
    """Returns the example with every member replaced whose name is known."""
    if isinstance(example, Mapping):
        return {key: known[key] if key in known else fitting(value, known) for key, value in example.items()}
    if isinstance(example, list):
        return [fitting(each, known) for each in example]
    return example


async def things_of(market: Market) -> dict[str, Any]:
    """Returns what examples are filled with: things that exist in the home organization, by the names that inputs give them."""
    order = await market.delivered()
    item_id = order["itemIds"][0]
    [asset] = (await market.home.op("items.list_assets", {"item_id": item_id}))["assets"]
    home = market.place.home
    owner = await market.signed_in(home.email)
    approval = await owner.op("billing.approvals.request", {"credits": 750_000})
    budget = await owner.op("budgets.save", {"subject_type": "organization", "period": "day", "limit_credits": 10_000_000})
    expires_at = iso(now() + timedelta(days=7))
    link = await market.home.op(
        "share.link.create",
        {"target_type": "item", "target_id": item_id, "password": "for the whole crew", "expires_at": expires_at},
    )
    tile_key = await market.home.op("items.tile_keys.create", {"name": "map", "item_id": item_id})
    upload = await market.home.op("uploads.initiate", {"project_id": home.project_id, "total_bytes": 1_000})
    profile = await market.home.op(
        "visualization.profile.create",
        {"item_id": item_id, "name": "Grey", "type": "singleband", "config": {"band": 1}, "is_default": True},
    )
    [imagery, *_] = market.house.settings.source_roots
    heights = await pictured_item(market.house, home, ("heights", imagery / "imagery" / HEIGHTS), stac_id="HEIGHTS")
    data = imagery.resolve()
    await open_showcase(market, sentinel_item(data), landsat_item(data), naip_item(), sample_item(data))
    return {
        "profile_id": profile["id"], "heights": heights["hrefs"]["heights"],
        "upload_id": upload["id"],
        "project_id": home.project_id, "projectId": home.project_id, "order_id": order["id"], "orderId": order["id"],
        "collection_id": order["collectionId"],
        "item_id": item_id, "itemId": item_id, "asset_id": asset["id"], "url": asset["href"], "geometry": market.aoi,
        "host_name": "test-archive", "host": "test-archive", "captures": market.cart()["captures"],
        "organization_id": home.organization_id, "approval_id": approval["id"],
        "budget_id": budget["id"], "target_id": item_id, "link_id": link["id"], "token": link["token"],
        "expires_at": expires_at, "key_id": tile_key["id"],
    }  # fmt: skip


def filled(operation: Operation, known: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an operation's documented example with things that exist."""
    example = operation.example or {}
    if operation.id == "catalog.search":
        known = {**known, "collections": ["ortho"]}
    if operation.id == "cog.tile.terrain":
        known = {**known, "url": known["heights"]}
    if operation.id.startswith("catalog.image."):
        known = {**known, "host_name": SHOWCASE, "image_id": NAIP_ID}
    if operation.id in {"catalog.info.sample", "catalog.provider.samples"}:
        known = {**known, "provider": SHOWCASE, "scene_id": SAMPLE_ID}
    if "entity_id" in example:
        known = {**known, "entity_id": known[f"{example['entity_type']}_id"]}
    filled_in: dict[str, Any] = fitting(example, known)
    return filled_in


def calmest_first(operations: Iterable[Operation]) -> list[Operation]:
    """Returns operations, those last that end what others need."""
    return sorted(operations, key=lambda operation: (CALMEST_FIRST.index(operation.effect), operation.id))


def garbage_bodies(operation: Operation) -> list[Any]:
    """Returns one body for each kind of garbage, in which every field of the operation holds it."""
    fields = [field.alias or name for name, field in operation.input_model.model_fields.items()] or ["anything"]
    return [dict.fromkeys(fields, value) for value in GARBAGE.values()]
