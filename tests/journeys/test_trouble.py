"""Bad input and trouble outside: each gets its problem, or ends an order with a reason, and nothing is half written."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from geopera_server.domains.orders import cutting
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation, operation_of
from geopera_server.raster.clip import clip_to_cog
from geopera_server.values.ids import new_id
from support.http_files import HttpFiles
from support.scenes import ARCHIVE, BOLZANO, open_archive, scene
from support.serving import problem_of, served

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
CROSSED = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
ESTIMATE = "orders.archive.estimate"

REFUSALS = {
    "unknown operation": ("nothing.here", {}, 404, "unknown_operation"),
    "unknown order": ("orders.get", {"order_id": new_id()}, 404, "not_found"),
    "malformed id": ("orders.get", {"order_id": "'; DROP TABLE orders; --"}, 404, "not_found"),
    "missing field": ("orders.get", {}, 422, "invalid_input"),
    "no object": ("orders.get", [1], 422, "invalid_input"),
    "NUL in text": ("orders.get", {"order_id": "a\x00b"}, 422, "invalid_input"),
    "empty cart": (ESTIMATE, {"captures": []}, 422, "invalid_input"),
    "no cart": (ESTIMATE, {}, 422, "invalid_input"),
    "crossed AOI": (
        ESTIMATE,
        {"captures": [{"id": "a", "host": "test-archive", "geometry": CROSSED}]},
        422,
        "invalid_geometry",
    ),
    "empty AOI": (
        ESTIMATE,
        {"captures": [{"id": "a", "geometry": {"type": "Polygon", "coordinates": []}}]},
        422,
        "invalid_geometry",
    ),
    "unknown licence": (
        ESTIMATE,
        {"captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "licenseType": "free"}]},
        422,
        "unknown_field_value",
    ),
    "unknown host": ("catalog.search", {"host_name": "nowhere"}, 404, "not_found"),
    "bbox out of range": ("catalog.search", {"host_name": "test-archive", "bbox": [0, 0, 200, 1]}, 422, "invalid_geometry"),
    "bbox of three": ("catalog.search", {"host_name": "test-archive", "bbox": [0, 0, 1]}, 422, "invalid_geometry"),
    "dates reversed": (
        "catalog.search",
        {"host_name": "test-archive", "datetime": "2024-02-01T00:00:00Z/2024-01-01T00:00:00Z"},
        422,
        "invalid_input",
    ),
    "limit 0": ("catalog.search", {"host_name": "test-archive", "limit": 0}, 422, "invalid_input"),
    "limit 10^9": ("catalog.search", {"host_name": "test-archive", "limit": 10**9}, 422, "invalid_input"),
    "foreign cursor": ("catalog.search", {"host_name": "test-archive", "next": "abc"}, 422, "invalid_input"),
    "unknown status": ("orders.list", {"status": "lost"}, 422, "unknown_field_value"),
    "unknown sort": ("orders.list", {"sort": "price,asc"}, 422, "unknown_field_value"),
    "size 0": ("orders.list", {"size": 0}, 422, "invalid_input"),
    "unknown project": ("items.list", {"project_id": new_id()}, 404, "not_found"),
    "operator only": ("pricing.admin.list", {"organization_id": new_id()}, 403, "missing_scope"),
    "unknown lineage kind": ("provenance.get", {"entity_type": "dream", "entity_id": "x"}, 422, "unknown_field_value"),
}


@pytest.fixture(scope="module")
async def shop(cluster, template, tmp_path_factory, shared_data):
    """One house with a scene to sell, for all the refusals that change nothing."""
    dsn = cluster.create_database(template[0])
    async with served(dsn, template[1], data_dir=tmp_path_factory.mktemp("shop"), source_roots=[shared_data]) as server:
        server.aoi = await open_archive(server, shared_data)
        yield server
    cluster.drop_database(dsn)


@pytest.mark.parametrize("case", REFUSALS.values(), ids=REFUSALS)
async def test_refused(shop, case):
    operation_id, body, status, code = case
    response = await shop.home.post(operation_id, body)
    problem = problem_of(response)
    assert (response.status_code, problem["code"]) == (status, code), problem
    if status == 422:
        for issue in problem["detail"]:
            assert issue["loc"][0] == "body"
            assert issue["msg"]
            assert issue["type"]


async def raw(shop, body: bytes, **headers):
    sent = {"Authorization": f"Bearer {shop.place.home.api_key}", "Content-Type": "application/json", **headers}
    return await shop.http.post("/v1/op/orders.archive.estimate", content=body, headers=sent)


@pytest.mark.parametrize("body", [b"{", b"not json", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe", b'{"a": 1} {}'])
async def test_what_is_not_json_is_400(shop, body):
    response = await raw(shop, body)
    assert (response.status_code, problem_of(response)["code"]) == (400, "malformed_json")


async def test_numbers_that_overflow_are_refused(shop):
    response = await raw(shop, b'{"captures": [{"id": "a", "geometry": {"type": "Point", "coordinates": [1e999, 0]}}]}')
    assert response.status_code in {400, 422}
    assert problem_of(response)["code"] in {"malformed_json", "invalid_input"}
    assert math.isinf(float("1e999"))


async def test_a_deeply_nested_body_is_refused(shop):
    response = await raw(shop, b'{"a":' * 900 + b"1" + b"}" * 900)
    assert response.status_code == 422
    problem_of(response)


async def test_a_large_body_is_413(shop):
    response = await raw(shop, b'{"a": "' + b"x" * (20 * 1024 * 1024) + b'"}')
    assert (response.status_code, problem_of(response)["code"]) == (413, "body_too_large")

    async def without_length():
        for _ in range(200):
            yield b"x" * 100_000

    response = await raw(shop, without_length())
    assert (response.status_code, problem_of(response)["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("path", ["/", "/v1/op/", "/v1/op/orders.get/more", "/nowhere", "/v2/orders", "/realms/other"])
async def test_unknown_paths_are_problems(shop, path):
    for method in ("GET", "POST", "DELETE"):
        response = await shop.http.request(method, path, headers={"Authorization": f"Bearer {shop.place.home.api_key}"})
        assert response.status_code in {404, 405}
        problem_of(response)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"X-API-Key": "gpra_wrong"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer"},
    ],
    ids=["none", "bearer", "key", "basic", "empty"],
)
async def test_bad_credentials_are_401(shop, headers):
    response = await shop.http.post("/v1/op/orders.list", json={}, headers=headers)
    assert (response.status_code, problem_of(response)["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_the_forms_of_one_call(shop):
    """Canonical and alias, POST and GET, empty body, each way to send a key; X-API-Key wins."""
    key = shop.place.home.api_key
    expected = (await shop.home.op("billing.credits.balance"))["balance"]
    for headers in ({"Authorization": f"Bearer {key}"}, {"Authorization": f"ApiKey {key}"}, {"X-API-Key": key}):
        for path in ("/v1/op/billing.credits.balance", "/v1/billing/credits/balance"):
            for method in ("POST", "GET"):
                response = await shop.http.request(method, path, headers=headers)
                assert response.json()["balance"] == expected, response.text
    both = {"X-API-Key": key, "Authorization": "Bearer wrong"}
    assert (await shop.http.get("/v1/op/billing.credits.balance", headers=both)).status_code == 200
    refused = await shop.http.get("/v1/op/api_keys.create", headers={"X-API-Key": key})
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    problem_of(refused)


async def test_cors_for_browsers(shop):
    asked = {
        "Origin": "https://app.example", "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,accept,x-api-key,idempotency-key",
    }  # fmt: skip
    preflight = await shop.http.options("/v1/op/orders.list", headers=asked)
    assert preflight.status_code == 200
    refused = await shop.http.post("/v1/op/orders.list", json={}, headers={"Origin": "https://app.example"})
    assert refused.headers["access-control-allow-origin"] == "*"
    assert "X-Invocation-Id" in refused.headers["access-control-expose-headers"]


async def test_another_organizations_ids_are_unknown(shop):
    """For every operation that takes an id: the same answer as for an id that nobody has."""
    order = await shop.home.op("orders.archive.place", cart(shop))
    done = await shop.until_ended(order["id"])
    item_id = done["itemIds"][0]
    [asset] = (await shop.home.op("items.list_assets", {"item_id": item_id}))["assets"]
    project_id = shop.place.home.project_id
    calls = {
        **{name: {"order_id": order["id"]} for name in ("orders.get", "orders.cancel", "orders.update", "orders.list_assets", "orders.events.list")},
        **{name: {"item_id": item_id} for name in ("items.get", "items.get_stac", "items.list_assets", "items.lineage")},
        "items.asset.download": {"item_id": item_id, "asset_id": asset["id"]},
        "items.list": {"project_id": project_id},
        "projects.get": {"project_id": project_id},
        "projects.update": {"project_id": project_id, "name": "mine"},
        "projects.archive": {"project_id": project_id},
        "provenance.get": {"entity_type": "order", "entity_id": order["id"]},
        "provenance.history": {"entity_type": "item", "entity_id": item_id},
        "provenance.verify": {"entity_type": "item", "entity_id": item_id},
        "organizations.get": {"organization_id": shop.place.home.organization_id},
        "orders.archive.place": cart(shop),
    }  # fmt: skip
    stranger = await shop.signed_in(shop.place.stranger.email)
    for name, body in calls.items():
        theirs = await stranger.post(name, body)
        unknown = await stranger.post(
            name, {**body, next(iter(body)): new_id()} if name != "provenance.get" else {**body, "entity_id": new_id()}
        )
        assert theirs.status_code == 404, (name, theirs.text)
        if name not in {"provenance.history", "provenance.verify"}:
            assert comparable(theirs) == comparable(unknown), name


def comparable(response):
    return {name: value for name, value in response.json().items() if name != "invocation_id"}


def cart(shop, capture="TEST_BOLZANO_1", host="test-archive", **more):
    captures = [{"id": capture, "host": host, "geometry": shop.aoi, **more}]
    return {"projectId": shop.place.home.project_id, "captures": captures}


async def test_errors_of_a_cart_are_listed_and_refuse_the_order(shop):
    far = {"type": "Polygon", "coordinates": [[[100, 0], [101, 0], [101, 1], [100, 1], [100, 0]]]}
    captures = [
        *cart(shop)["captures"],
        {"id": "NOT_THERE", "host": "test-archive"},
        {"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": far},
        {"id": "TEST_BOLZANO_1", "host": "nowhere"},
    ]
    estimate = await shop.home.op(ESTIMATE, {"captures": captures})
    assert [(error["index"], error["code"]) for error in estimate["errors"]] == [
        (1, "capture_not_found"), (2, "aoi_outside_capture"), (3, "capture_not_found"),
    ]  # fmt: skip
    assert estimate["total_credits"] > 0
    before = await shop.sql("SELECT count(*) AS orders FROM orders")
    response = await shop.home.post("orders.archive.place", {**cart(shop), "captures": captures})
    assert response.status_code == 422
    assert [issue["loc"] for issue in problem_of(response)["detail"]] == [["body", "captures", n] for n in (1, 2, 3)]
    assert await shop.sql("SELECT count(*) AS orders FROM orders") == before


async def test_a_price_guard_refuses_another_price(shop):
    total = (await shop.home.op(ESTIMATE, {"captures": cart(shop)["captures"]}))["total_credits"]
    for guard in ({"expectedTotalCredits": total - 1}, {"maxTotalCredits": total - 1}):
        assert await shop.home.refused("orders.archive.place", {**cart(shop), **guard}) == (409, "price_changed")
    placed = await shop.home.op("orders.archive.place", {**cart(shop), "expected_total_credits": total, "surprise": 1})
    assert placed["warnings"] == [{"code": "ignored_field", "field": "surprise"}]
    await shop.until_ended(placed["id"])


async def failed_order(server, feature, *, code="failed"):
    """Imports a scene, orders it and returns how the order ended."""
    operator = await server.operator()
    await operator.op("catalog.admin.scenes_import", {"host": "test-archive", "features": [feature]})
    balance = (await server.home.op("billing.credits.balance"))["balance"]
    placed = await server.home.op("orders.archive.place", cart(server, capture=feature["id"]))
    assert placed["totalCredits"] > 0
    order = await server.until_ended(placed["id"])
    assert order["status"] == code, order
    figures = await server.home.op("billing.credits.balance")
    assert (figures["balance"], figures["reserved"]) == (balance, 0)
    assert order["failureReason"]
    assert order["itemIds"] == []
    [job] = await server.sql("SELECT state FROM job WHERE entity_id = %s", order["id"])
    assert job["state"] in {"done", "failed"}
    events = await server.home.op("orders.events.list", {"order_id": order["id"]})
    assert [event["type"] for event in events["events"]] == ["order.created", "order.failed"]
    return order


async def test_a_vanished_asset_fails_the_order(shop, shared_data):
    feature = scene(shared_data / "imagery" / BOLZANO, "VANISHED", collection="ortho")
    feature["assets"]["data"]["href"] = str(shared_data / "imagery" / "gone.tif")
    order = await failed_order(shop, feature)
    assert "gone.tif" in order["failureReason"]


async def test_a_file_outside_the_source_folders_is_never_read(shop, shared_data, tmp_path):
    outside = tmp_path / "secret.tif"
    shutil.copy(shared_data / "imagery" / BOLZANO, outside)
    feature = scene(outside, "OUTSIDE", collection="ortho")
    order = await failed_order(shop, feature)
    assert "source folder" in order["failureReason"]
    assert str(tmp_path) not in order["failureReason"]


@pytest.mark.parametrize("trouble", ["missing", "html"])
async def test_a_source_that_answers_wrongly_fails_the_order(shop, shared_data, trouble):
    with HttpFiles(shared_data / "imagery") as files:
        await register_archive(shop, files.url(""))
        getattr(files, trouble)(BOLZANO)
        feature = scene(shared_data / "imagery" / BOLZANO, f"WRONG_{trouble}", collection="ortho")
        feature["assets"]["data"]["href"] = files.url(BOLZANO)
        await failed_order(shop, feature)
    await register_archive(shop, None)


async def register_archive(server, url):
    connector = {"kind": "index"} if url is None else {"kind": "index", "url": url}
    await (await server.operator()).op("catalog.admin.source_save", {**ARCHIVE, "connector": connector})


async def test_assets_are_read_over_http_by_range(shop, shared_data):
    with HttpFiles(shared_data / "imagery") as files:
        await register_archive(shop, files.url(""))
        feature = scene(shared_data / "imagery" / BOLZANO, "OVER_HTTP", collection="ortho")
        feature["assets"]["data"]["href"] = files.url(BOLZANO)
        await (await shop.operator()).op("catalog.admin.scenes_import", {"host": "test-archive", "features": [feature]})
        placed = await shop.home.op("orders.archive.place", cart(shop, capture="OVER_HTTP"))
        order = await shop.until_ended(placed["id"])
        assert order["status"] == "fulfilled", order["failureReason"]
    await register_archive(shop, None)


async def test_a_private_address_of_somebody_else_is_never_asked(shop, shared_data):
    feature = scene(shared_data / "imagery" / BOLZANO, "NEIGHBOUR", collection="ortho")
    feature["assets"]["data"]["href"] = "http://127.0.0.1:1/secret.tif"
    order = await failed_order(shop, feature)
    assert "private network" in order["failureReason"]


@pytest.mark.parametrize("second_asset_fails", [False, True])
async def test_a_defect_in_delivery_ends_the_order_too(database, place, tmp_path, shared_data, monkeypatch, second_asset_fails):
    """After the last attempt the order fails, the hold is released, and what was stored meanwhile is gone."""
    calls = []

    def clip(href, file, **more):
        calls.append(href)
        if second_asset_fails and len(calls) % 2:
            return clip_to_cog(href, file, **more)
        raise KeyError("a defect")

    monkeypatch.setattr(cutting, "clip_to_cog", clip)
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], job_attempts=1) as server:
        server.aoi = await open_archive(server, shared_data)
        feature = scene(shared_data / "imagery" / BOLZANO, "TWO_FILES", collection="ortho")
        feature["assets"]["again"] = dict(feature["assets"]["data"])
        order = await failed_order(server, feature)
        assert "defect" not in order["failureReason"]
        assert [path for path in (tmp_path / "objects").rglob("*") if path.is_file()] == []


async def test_a_redirect_to_a_private_address_is_not_followed(shop, shared_data):
    with HttpFiles(shared_data / "imagery") as files, HttpFiles(shared_data / "imagery") as neighbour:
        await register_archive(shop, files.url(""))
        inside = neighbour.url(BOLZANO).replace("127.0.0.1", "localhost")
        files.redirect(BOLZANO, inside)
        feature = scene(shared_data / "imagery" / BOLZANO, "LED_ASTRAY", collection="ortho")
        feature["assets"]["data"]["href"] = files.url(BOLZANO)
        order = await failed_order(shop, feature)
        assert "private network" in order["failureReason"]
        assert neighbour.requests == []
    await register_archive(shop, None)


async def test_a_redirect_within_the_catalogues_machine_is_followed(shop, shared_data):
    with HttpFiles(shared_data) as files:
        await register_archive(shop, files.url(""))
        files.redirect("moved.tif", files.url(f"imagery/{BOLZANO}"))
        feature = scene(shared_data / "imagery" / BOLZANO, "MOVED", collection="ortho")
        feature["assets"]["data"]["href"] = files.url("moved.tif")
        await (await shop.operator()).op("catalog.admin.scenes_import", {"host": "test-archive", "features": [feature]})
        placed = await shop.home.op("orders.archive.place", cart(shop, capture="MOVED"))
        order = await shop.until_ended(placed["id"])
        assert order["status"] == "fulfilled", order["failureReason"]
    await register_archive(shop, None)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes."""
    folder = tmp_path / "small"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=False).returncode:
        pytest.skip("mounting a small file system needs root and the right to mount")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_fails_the_order_and_leaves_nothing(database, place, small_disk, tmp_path, shared_data):
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    more = {"storage_url": f"file://{small_disk}", "job_attempts": 1}
    async with served(database, place, data_dir=data_dir, source_roots=[shared_data], **more) as server:
        server.aoi = await open_archive(server, shared_data)
        filler = small_disk / "filler"
        filler.write_bytes(b"x" * (1900 * 1024))
        placed = await server.home.op("orders.archive.place", cart(server))
        order = await server.until_ended(placed["id"])
        assert (order["status"], order["reservedCredits"]) == ("failed", 0)
        assert "no room" in order["failureReason"]
        assert [path for path in small_disk.rglob("*") if path.is_file()] == [filler]
        assert list(Path(data_dir / "scratch").iterdir()) == []


async def test_a_defect_is_a_problem_that_tells_nothing_of_our_insides(shop):
    async def broken(ctx: Context, given: Nothing) -> dict:
        """Breaks."""
        raise RuntimeError("a secret of ours")

    shop.house.registry.add(operation_of(operation("test.broken", effect="read", scope="orders:read", raw=True)(broken)))
    response = await shop.home.post("test.broken")
    assert (response.status_code, problem_of(response)["code"]) == (500, "internal_error")
    assert "secret" not in response.text


class Nothing(BaseModel):
    """No input."""
