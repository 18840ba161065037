"""The published Python SDK against a served house: the quickstart, and what it makes of every kind of reply."""

from __future__ import annotations

import pytest
import pytest_asyncio

from geopera_server.kernel.operation import Operation
from support.clients import Clients
from support.examples import calmest_first, filled, things_of
from support.market import opened_market

QUERY = {"host_name": "test-archive", "collections": ["ortho"], "bbox": [11.0, 46.2, 11.6, 46.8], "limit": 10}


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


@pytest.fixture(scope="module")
def clients(clients_venv, tmp_path_factory):
    return Clients(clients_venv, tmp_path_factory.mktemp("home"))


@pytest_asyncio.fixture(scope="module")
async def sdk(clients, market):
    """Calls operations through the SDK, as the home organization unless told otherwise."""
    async with clients.conversation("sdk_calls.py") as conversation:

        async def call(operation, body, *, how="sync", **more):
            spoken = {"token": market.place.home.api_key, "base_url": market.base_url, **more}
            return await conversation.ask(operation=operation, body=body, how=how, **spoken)

        yield call


async def test_quickstart_in_python(clients, market):
    settings = {
        "base_url": market.base_url,
        "api_key": market.place.home.api_key,
        "project_id": market.place.home.project_id,
        "host": "test-archive",
        "collections": ["ortho"],
        "bbox": QUERY["bbox"],
        "aoi": market.aoi,
        "idempotency_key": "sdk-quickstart",
    }
    told = await clients.script("sdk_quickstart.py", settings)
    size = told.pop("bytes")
    statuses = {step: each["status"] for step, each in told.items()}
    assert statuses == {**dict.fromkeys(told, 200), "place": 202, "place again": 202}
    models = {step: each["model"] for step, each in told.items()}
    assert models == {
        **dict.fromkeys(told, "dict"),
        "search": "CatalogSearchOutput",
        "estimate": "ArchiveEstimateOutput",
        "lineage": "LineageGetOutput",
    }
    content = {step: each["content"] for step, each in told.items()}
    order = content["place"]
    assert content["place again"] == order
    assert order["totalCredits"] == content["estimate"]["total_credits"] > 0
    assert content["get"]["status"] == "fulfilled", content["get"]["failureReason"]
    assert content["get"]["settledCredits"] == order["totalCredits"]
    [item] = content["list"]["items"]
    assert content["get"]["itemIds"] == [item["id"]]
    assert (content["stac"]["type"], content["stac"]["stac_version"][:2]) == ("Feature", "1.")
    assert ("order", order["id"]) in {(node["entity_type"], node["entity_id"]) for node in content["lineage"]["nodes"]}
    assert size == content["download"]["file_size_bytes"] > 0


@pytest.mark.parametrize("how", ["sync", "asyncio", "fluent"])
async def test_every_way_of_calling_gives_the_same_model(sdk, how):
    found = await sdk("catalog.search", QUERY, how=how)
    assert (found["status"], found["model"]) == (200, "CatalogSearchOutput")
    assert [feature["id"] for feature in found["content"]["features"]] == ["TEST_BOLZANO_1"]


UNKNOWN = "0198f1c2-0000-7000-8000-000000000000"
REFUSALS = {
    "no credential": ("catalog.search", QUERY, {"token": None}, 401, "unauthenticated"),
    "unknown key": ("catalog.search", QUERY, {"token": "gpra_unknown"}, 401, "unauthenticated"),
    "unknown id": ("orders.get", {"order_id": UNKNOWN}, {}, 404, "not_found"),
    "malformed id": ("orders.get", {"order_id": "mine"}, {}, 404, "not_found"),
    "unknown host": ("catalog.search", {"host_name": "nowhere"}, {}, 404, "not_found"),
}


@pytest.mark.parametrize("how", ["sync", "asyncio", "fluent"])
@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
async def test_refusals_become_problems(sdk, case, how):
    operation, body, more, status, code = case
    refused = await sdk(operation, body, how=how, **more)
    assert (refused["status"], refused["model"], refused["content"]["code"]) == (status, "Problem", code)
    assert refused["content"]["detail"]


async def test_missing_scope_becomes_a_problem(sdk, market):
    owner = (await market.signed_in(market.place.home.email)).token
    made = await sdk("api_keys.create", {"name": "reader", "permissions": ["catalog:read"]}, token=owner)
    assert (made["status"], made["model"]) == (200, "ApiKeyCreateOutput")
    key = made["content"]["key"]
    assert (await sdk("catalog.search", QUERY, token=key))["status"] == 200
    refused = await sdk("orders.archive.estimate", market.cart(), token=key)
    assert (refused["status"], refused["model"], refused["content"]["code"]) == (403, "Problem", "missing_scope")
    revoked = await sdk("api_keys.revoke", {"key_id": made["content"]["id"]}, token=owner)
    assert (revoked["status"], revoked["model"]) == (200, "ApiKeyRevokeOutput")
    assert (await sdk("catalog.search", QUERY, token=key))["status"] == 401


@pytest.mark.parametrize(
    ("operation", "body", "loc"),
    [
        ("catalog.search", {**QUERY, "limit": 0}, ["body", "limit"]),
        ("orders.archive.estimate", {"captures": []}, ["body", "captures"]),
        ("orders.archive.place", {"captures": []}, ["body", "projectId"]),
        ("orders.archive.place", None, ["body", "projectId"]),
        ("orders.archive.place", {}, ["body", "projectId"]),
    ],
    ids=["field", "cart", "free-form", "no body", "empty body"],
)
async def test_invalid_input_becomes_a_validation_error(sdk, operation, body, loc):
    refused = await sdk(operation, body)
    assert (refused["status"], refused["model"]) == (422, "HTTPValidationError")
    assert loc in [issue["loc"] for issue in refused["content"]["detail"]]
    assert all(issue["msg"] and issue["type"] for issue in refused["content"]["detail"])


async def test_refusals_that_the_sdk_does_not_know_are_none(sdk, market):
    body = market.cart(projectId=market.place.home.project_id)
    spend = {"headers": {"Idempotency-Key": "sdk-mismatch"}}
    assert (await sdk("orders.archive.place", body, **spend))["status"] == 202
    refused = await sdk("orders.archive.place", {**body, "displayName": "other"}, **spend)
    assert (refused["status"], refused["content"]) == (409, None)


async def test_key_may_come_in_a_header_of_its_own(sdk, market):
    key = market.place.home.api_key
    found = await sdk("catalog.search", QUERY, token="nonsense", more={"x_api_key": key})
    assert found["status"] == 200


# The generator of the SDK met three inputs of one name and kept one of the operations.
NOT_IN_THE_SDK = {"glossary.collections.list", "stac.collections.list"}


def in_the_sdk(operation: Operation) -> bool:
    return not (operation.internal or operation.extension or operation.media_type or operation.id in NOT_IN_THE_SDK)


@pytest_asyncio.fixture(scope="module")
async def known(market):
    return await things_of(market)


@pytest.mark.parametrize("who", ["stranger", "owner"])
async def test_every_operation_is_understood(sdk, market, known, who):
    """The stranger asks for the same things, which for them are not there."""
    email = market.place.home.email if who == "owner" else market.place.stranger.email
    token = (await market.signed_in(email)).token
    wrong = []
    for operation in calmest_first(filter(in_the_sdk, market.house.registry)):
        reply = await sdk(operation.id, filled(operation, known), token=token)
        if fault := misunderstood(operation, reply):
            wrong.append(f"{operation.id}: {fault}")
    assert not wrong, "\n".join(wrong)


def misunderstood(operation: Operation, reply: dict) -> str | None:
    """Returns what the SDK could not make of a reply."""
    if "raised" in reply:
        return reply["raised"]
    if reply["status"] == operation.status:
        parsed = reply["model"] != "NoneType" and (operation.raw or operation.free_form or reply["model"] != "dict")
    elif reply["status"] in {401, 403, 404, 422, 500}:
        parsed = reply["model"] == ("HTTPValidationError" if reply["status"] == 422 else "Problem")
    else:
        parsed = reply["status"] in {402, 409, 410, 502, 503}
    return None if parsed else f"{reply['status']} became {reply['model']}: {str(reply['content'])[:300]}"
