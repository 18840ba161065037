"""The published MCP server against a served house, driven by an MCP client as an agent drives it."""

from __future__ import annotations

import json

import pytest
import pytest_asyncio

from support.clients import Clients
from support.examples import calmest_first, filled, things_of
from support.market import opened_market


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


@pytest.fixture(scope="module")
def clients(clients_venv, tmp_path_factory):
    return Clients(clients_venv, tmp_path_factory.mktemp("home"))


@pytest_asyncio.fixture(scope="module")
async def agent(clients, market):
    """A conversation with an agent whose MCP server holds the home organization's key."""
    environment = clients.environment(GEOPERA_API_URL=market.base_url, GEOPERA_API_TOKEN=market.place.home.api_key)
    server = {"command": str(clients.venv / "bin" / "geopera-mcp"), "env": environment}
    async with clients.conversation("mcp_calls.py", json.dumps(server)) as conversation:
        yield conversation


async def answered(agent, tool, **arguments):
    """Calls a tool that must succeed and returns its structured answer."""
    answer = await agent.ask(tool=tool, arguments=arguments)
    assert not answer["failed"], answer["text"]
    return answer["content"]


async def test_tools_are_the_customers_operations(agent, market):
    document = (await market.http.get("/openapi.json")).json()
    operations = [item["post"] for item in document["paths"].values()]
    tools = {tool["name"]: tool for tool in await agent.ask()}
    usable = {
        operation["operationId"]: operation
        for operation in operations
        if not operation["x-raw-response"]
        or (operation["x-side-effect"] == "read" and operation.get("x-output-media-type") is None)
    }
    assert tools.keys() == usable.keys()
    assert not [name for name in tools if ".admin" in name or "_internal" in name]
    for name, operation in usable.items():
        assert tools[name]["reads"] == (operation["x-side-effect"] == "read"), name
        assert tools[name]["destroys"] == (operation["x-side-effect"] == "destructive"), name
    assert tools["orders.archive.place"]["arguments"] == ["Idempotency-Key", "body", "x-api-key"]
    assert {"host_name", "bbox", "x-api-key"} <= set(tools["catalog.search"]["arguments"])


async def test_agent_finds_prices_and_orders_imagery(agent, market):
    query = {"host_name": "test-archive", "bbox": [11.0, 46.2, 11.6, 46.8]}
    [feature] = (await answered(agent, "catalog.search", **query))["features"]
    captures = [{"id": feature["id"], "host": feature["host"], "geometry": market.aoi}]
    estimate = await answered(agent, "orders.archive.estimate", captures=captures)
    before = await answered(agent, "billing.credits.balance")
    order = await answered(
        agent, "orders.archive.place", body={"projectId": market.place.home.project_id, "captures": captures}
    )
    assert order["totalCredits"] == estimate["total_credits"] > 0
    after = await answered(agent, "billing.credits.balance")
    assert after["balance"] == before["balance"] - order["totalCredits"]
    await market.until_ended(order["id"])
    done = await answered(agent, "orders.get", order_id=order["id"])
    assert done["status"] == "fulfilled"
    listed = await answered(agent, "items.list", project_id=market.place.home.project_id)
    assert done["itemIds"] == [item["id"] for item in listed["items"]]
    lineage = await answered(agent, "provenance.get", entity_type="item", entity_id=done["itemIds"][0])
    assert ("order", order["id"]) in {(node["entity_type"], node["entity_id"]) for node in lineage["nodes"]}


async def test_free_form_arguments_beside_body_are_refused_by_the_server(agent, market):
    """The MCP server drops what is not under `body`, so ours gets an empty one and says what is missing."""
    answer = await agent.ask(tool="orders.archive.place", arguments=market.cart(projectId=market.place.home.project_id))
    assert answer["failed"]
    assert "422" in answer["text"]
    assert "projectId" in answer["text"]


async def test_repeated_order_with_a_key_is_one_order(agent, market):
    body = market.cart(projectId=market.place.home.project_id)
    first = await answered(agent, "orders.archive.place", **{"body": body, "Idempotency-Key": "agent-1"})
    again = await answered(agent, "orders.archive.place", **{"body": body, "Idempotency-Key": "agent-1"})
    assert again == first


async def test_agent_is_told_why_it_may_not(agent, market):
    owner = await market.signed_in(market.place.home.email)
    made = await owner.op("api_keys.create", {"name": "agent", "permissions": ["catalog:read"]})
    narrow = {"x-api-key": made["key"]}
    assert (await answered(agent, "catalog.search", host_name="test-archive", **narrow))["features"]
    refused = await agent.ask(tool="orders.archive.estimate", arguments=market.cart(**narrow))
    assert refused["failed"]
    assert "403" in refused["text"]
    assert "missing_scope" in refused["text"]
    assert "orders:read" in refused["text"]
    refused = await agent.ask(tool="catalog.search", arguments={"host_name": "test-archive", "x-api-key": "gpra_unknown"})
    assert "401" in refused["text"]


async def test_every_tool_gives_what_it_promises(agent, market):
    """The MCP server holds each reply against the schema that it took from our document."""
    known = await things_of(market)
    tools = {tool["name"] for tool in await agent.ask()}
    wrong = []
    for operation in calmest_first(each for each in market.house.registry if each.id in tools):
        example = filled(operation, known)
        answer = await agent.ask(tool=operation.id, arguments={"body": example} if operation.free_form else example)
        if answer["failed"] and "urn:geopera:problem:" not in answer["text"]:
            wrong.append(f"{operation.id}: {answer['text'][:300]}")
    assert not wrong, "\n".join(wrong)
