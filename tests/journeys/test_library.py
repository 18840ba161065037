"""A project's life over HTTP: shared with colleagues, ordered into collections, expired, and deleted for good."""

from __future__ import annotations

import asyncio

import pytest_asyncio

from geopera_server.domains.identity.bootstrap import create_user
from geopera_server.values.clock import now
from support.market import opened_market
from support.serving import PASSWORD


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


async def colleague(market, email: str):
    """Adds a member of the home organization and returns their id and them, signed in."""
    async with market.house.pool.connection() as conn, conn.transaction():
        user = await create_user(conn, email=email, password=PASSWORD, at=now())
        await conn.execute(
            "INSERT INTO membership (organization_id, user_id, role, created_at) VALUES (%s, %s, 'member', now())",
            (market.place.home.organization_id, user["id"]),
        )
    return user["id"], await market.signed_in(email)


async def objects_in(market, folder: str) -> list[str]:
    return [found.path async for found in market.house.store.list(folder)]


async def until(condition, *, within_s: float = 20.0) -> None:
    deadline = asyncio.get_running_loop().time() + within_s
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def bought_into(market, project_id: str) -> dict:
    order = await market.home.op("orders.archive.place", market.cart(projectId=project_id))
    done = await market.until_ended(order["id"])
    assert done["status"] == "fulfilled", done["failureReason"]
    return done


async def test_from_the_first_member_to_the_last_file(market):
    owner = await market.signed_in(market.place.home.email)
    project = {"project_id": (await owner.op("projects.create", {"name": "Berths"}))["id"]}
    editor_id, editor = await colleague(market, "editor@home.example")
    added = await owner.op("projects.add_member", {**project, "user_id": editor_id})
    assert (added["role"], added["email"]) == ("editor", "editor@home.example")

    order = await bought_into(market, project["project_id"])
    item = {"item_id": order["itemIds"][0]}
    chosen = await editor.op("collections.create", {**project, "name": "Best of March", "color": "#ff8800"})
    await editor.op("items.update", {**item, "collection_id": chosen["id"]})
    listed = await editor.op("collections.list", project)
    assert {each["name"]: each["item_count"] for each in listed["collections"]}["Best of March"] == 1
    full = await editor.op("collections.get", {**project, "collection_id": chosen["id"]})
    shown = (await editor.op("items.get", item))["item"]
    assert full["bbox"] == shown["bbox"]
    assert full["storage_bytes"] == shown["storage_bytes"] > 0
    stats = await editor.op("projects.stats", project)
    assert (stats["items_by_type"], stats["storage_bytes"]) == ({shown["type"]: 1}, shown["storage_bytes"])
    assert stats["credits_month"] == order["totalCredits"]
    assert await editor.refused("collections.delete", {**project, "collection_id": chosen["id"]}) == (403, "role_required")
    assert await editor.refused("projects.delete", project) == (403, "role_required")

    operator = await market.operator()
    await operator.op("items.admin.set_retention", {"item_ids": [item["item_id"]], "days": 3})
    soon = await operator.op("items.list_expiring")
    assert [each["id"] for each in soon["items"]] == [item["item_id"]]
    assert (await operator.op("items.expire_batch"))["expiring"] == 1
    assert (await editor.op("items.get", item))["item"]["lifecycle_state"] == "expiring"
    await operator.op("items.admin.set_retention", {"item_ids": [item["item_id"]], "days": 0})
    assert (await operator.op("items.expire_batch"))["expired"] == 1
    [asset] = (await editor.op("items.list_assets", item))["assets"]
    ask = {**item, "asset_id": asset["id"]}
    assert await editor.refused("items.asset.download", ask) == (410, "retention_expired")
    await operator.op("items.admin.set_retention", {"item_ids": [item["item_id"]], "expires_at": None})
    url = (await editor.op("items.asset.download", ask))["url"]
    assert (await market.http.get(url)).status_code == 200

    gone = await owner.op("projects.delete", project)
    assert gone == {**project, "deleted": True, "storage_freed_bytes": shown["storage_bytes"]}
    assert await editor.refused("projects.get", project) == (404, "not_found")
    assert await editor.refused("items.get", item) == (404, "not_found")
    await until(lambda: is_empty(market, f"projects/{project['project_id']}"))
    assert (await market.http.get(url)).status_code in {404, 410}
    assert (await owner.op("orders.get", {"order_id": order["id"]}))["status"] == "fulfilled"
    assert (await owner.op("provenance.verify", {}))["ok"]
    node = await owner.op("provenance.get", {"entity_type": "item", "entity_id": item["item_id"], "direction": "up"})
    assert ("order", order["id"]) in {(each["entity_type"], each["entity_id"]) for each in node["nodes"]}


async def is_empty(market, folder: str) -> bool:
    return await objects_in(market, folder) == []


async def test_nobody_deletes_a_project_under_its_delivery(market):
    """While the order is open the project stays; afterwards it goes, and no file of the delivery is left behind."""
    project = {"project_id": (await market.home.op("projects.create", {"name": "Busy"}))["id"]}
    order = await market.home.op("orders.archive.place", market.cart(projectId=project["project_id"]))
    first = await market.home.post("projects.delete", project)
    ended = await market.until_ended(order["id"])
    assert (first.status_code, first.json().get("code")) == (409, "resource_busy")
    assert ended["status"] == "fulfilled"

    async def deleted() -> bool:
        return (await market.home.post("projects.delete", project)).status_code == 200

    await until(deleted)
    await until(lambda: is_empty(market, f"projects/{project['project_id']}"))


async def test_others_get_the_same_answer_as_for_nothing(market):
    project = {"project_id": market.place.home.project_id}
    collection = await market.home.op("collections.create", {**project, "name": "Ours"})
    ours = {**project, "collection_id": collection["id"], "user_id": market.place.home.user_id, "role": "viewer", "name": "x"}
    ids = dict.fromkeys(("project_id", "collection_id", "user_id"), "0192d3c4-0000-7000-8000-00000000dead")
    for operation_id in (
        "projects.delete", "projects.add_member", "projects.update_member", "projects.remove_member", "projects.members.list",
        "projects.stats", "collections.create", "collections.get", "collections.list", "collections.update",
        "collections.delete", "collections.restore",
    ):  # fmt: skip
        bodies = []
        for given in (ours, {**ours, **ids}):
            response = await market.stranger.post(operation_id, given)
            assert response.status_code == 404, operation_id
            problem = response.json()
            bodies.append({key: value for key, value in problem.items() if key not in {"invocation_id", "instance"}})
        assert bodies[0] == bodies[1], operation_id
    assert (await market.home.op("collections.get", {**project, "collection_id": collection["id"]}))["name"] == "Ours"
