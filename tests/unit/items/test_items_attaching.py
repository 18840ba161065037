"""Files that are added to items and replaced later, as uploads do."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.items import store
from geopera_server.domains.items.access import require_item_write
from geopera_server.domains.items.registration import NewAsset, attach_asset, replace_asset
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, NotFound, PaymentRequired
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id
from support.deliveries import asset, deliver, item


class Attachment(BaseModel):
    """A file of an item; of an asset that it has when `asset_id` says so."""

    item_id: str
    asset: dict[str, Any]
    asset_id: str | None = None
    parents: list[tuple[str, str]] | None = None


class Attached(TypedDict):
    """The asset."""

    id: str
    key: str


@operation("test.attach", effect="compute", scope="items:write", produces=("item", "asset"), raw=True)
async def attach(ctx: Context, given: Attachment) -> Attached:
    """Adds a file."""
    row = await require_item_write(ctx.conn, ctx.principal, given.item_id, new_data=True)
    made = await attach_asset(ctx, row, NewAsset(**given.asset), parents=given.parents)
    return Attached(id=made["id"], key=made["key"])


@operation("test.replace", effect="compute", scope="items:write", produces=("item", "asset"), raw=True)
async def replace(ctx: Context, given: Attachment) -> Attached:
    """Replaces a file."""
    before = await store.asset_of(ctx.conn, ctx.organization_id, given.asset_id or "")
    assert before is not None
    made = await replace_asset(ctx, before, NewAsset(**given.asset))
    return Attached(id=made["id"], key=made["key"])


@pytest.fixture
async def item_id(household):
    return (await household.owner.run(deliver, {"item": item(household.project_id), "assets": [asset("data")]}))["id"]


async def stored(household):
    [row] = await household.sql(
        "SELECT bytes FROM storage_total WHERE organization_id = %s", household.place.home.organization_id
    )
    return row["bytes"]


async def matches(household, kind, entity_id):
    await household.seal()
    return (await household.owner.op("provenance.verify", {"entity_type": kind, "entity_id": entity_id}))["digest_matches"]


async def test_a_file_joins_an_item(household, item_id):
    made = await household.owner.run(attach, {"item_id": item_id, "asset": asset("mask", file_size_bytes=50)})
    full = (await household.owner.op("items.get", {"item_id": item_id}))["item"]
    assert [each["key"] for each in full["assets"]] == ["data", "mask"]
    assert await stored(household) == 1_050
    [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", made["id"])
    assert record["parents"] == [{"entity_type": "item", "entity_id": item_id}]
    [event] = await household.sql("SELECT data FROM outbox_event WHERE type = 'item.updated'")
    assert event["data"] == {key: full[key] for key in event["data"]}
    assert await matches(household, "item", item_id)
    assert await matches(household, "asset", made["id"])


async def test_a_file_may_come_from_elsewhere(household, item_id):
    upload_id = new_id()
    given = {"item_id": item_id, "asset": asset("mask"), "parents": [("upload", upload_id)]}
    made = await household.owner.run(attach, given)
    [record] = await household.sql("SELECT parents FROM lineage_record WHERE entity_id = %s", made["id"])
    assert record["parents"] == [{"entity_type": "upload", "entity_id": upload_id}]


async def test_a_key_is_taken_once(household, item_id):
    with pytest.raises(Conflict):
        await household.owner.run(attach, {"item_id": item_id, "asset": asset("data")})
    given = {"item_id": item_id, "asset": asset("mask")}
    answers = await asyncio.gather(*(household.owner.run(attach, given) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, dict) for answer in answers) == 1
    assert await stored(household) == 2_000
    assert await matches(household, "item", item_id)


async def test_files_at_once_all_join(household, item_id):
    await asyncio.gather(
        *(household.owner.run(attach, {"item_id": item_id, "asset": asset(f"part{number}")}) for number in range(5))
    )
    assert await stored(household) == 6_000
    assert await matches(household, "item", item_id)


async def test_an_item_has_as_many_files_as_the_plan_allows(household, item_id):
    await household.sql("UPDATE plan SET limits = limits || '{\"max_item_assets\": 2}'")
    await household.owner.run(attach, {"item_id": item_id, "asset": asset("mask")})
    with pytest.raises(PaymentRequired):
        await household.owner.run(attach, {"item_id": item_id, "asset": asset("more")})
    body = {"project_id": household.project_id, "name": "x", "type": "clip", "datetime": "2024-01-01T00:00:00Z"}
    files = [{"key": f"k{number}", "href": "projects/p/data.tif", "media_type": "image/tiff"} for number in range(3)]
    given = {**body, "assets": files}
    assert await household.owner.refused("items.create", given) == (402, "plan_limit_reached")
    await household.owner.op("items.create", {**body, "assets": files[:2]})


async def test_a_file_is_replaced_under_its_id_and_key(household, item_id):
    [before] = (await household.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
    new = asset("ignored", href="projects/p/cog.tif", file_size_bytes=400, checksum="sha256:1", is_cog=True, band_count=3)
    made = await household.owner.run(replace, {"item_id": item_id, "asset_id": before["id"], "asset": new})
    assert made == {"id": before["id"], "key": "data"}
    [after] = (await household.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
    assert (after["href"], after["file_size_bytes"], after["is_cog"], after["band_count"]) == (
        "projects/p/cog.tif",
        400,
        True,
        3,
    )
    assert await stored(household) == 400
    assert await matches(household, "item", item_id)
    assert await matches(household, "asset", before["id"])
    assert len(await household.sql("SELECT id FROM outbox_event WHERE type = 'item.updated'")) == 1


async def test_what_is_gone_takes_no_files(household, item_id):
    [before] = (await household.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
    given = {"item_id": item_id, "asset_id": before["id"], "asset": asset("mask")}
    await household.owner.op("assets.delete", {"item_id": item_id, "asset_id": before["id"]})
    with pytest.raises(NotFound):
        await household.owner.run(replace, given)
    await household.owner.op("items.delete", {"item_id": item_id})
    for handler in (attach, replace):
        with pytest.raises(NotFound):
            await household.owner.run(handler, given)
    with pytest.raises(NotFound):
        await household.stranger.run(attach, given)
