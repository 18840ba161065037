"""Imagery shared with people who have no account: links with a password, and keys for maps."""

from __future__ import annotations

import asyncio
import io
import re
from datetime import timedelta

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from geopera_server.kernel import pipeline
from geopera_server.values import clock
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.market import opened_market
from support.serving import problem_of
from support.sharing import SHARE_PASSWORD, link_to, opening


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gallery(cluster, template, tmp_path_factory, shared_data):
    """A market with two delivered items, and nobody else in it."""
    async with opened_market(cluster, template, tmp_path_factory.mktemp("gallery"), shared_data) as market:
        [market.item_id] = (await market.delivered())["itemIds"]
        [market.other_id] = (await market.delivered())["itemIds"]
        yield market


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def visit(market, link, **more):
    """Opens a link as a visitor does and returns what is shared."""
    response = await market.http.post("/v1/op/share.link.validate", json=opening(link, **more))
    assert response.status_code == 200, response.text
    return response.json()["target"]


async def share(market, **more):
    return await market.home.op("share.link.create", {**link_to(market.item_id), **more})


async def tile_urls(market, described):
    """Returns the addresses of the tiles over the middle of what TileJSON describes, one for each zoom level."""
    lon, lat = described["center"][:2]
    urls = []
    for z in range(described["minzoom"], described["maxzoom"] + 1):
        x = int((lon + 180) / 360 * 2**z)
        y = int((1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**z)
        [template] = described["tiles"]
        urls.append(template.replace("{z}", str(z)).replace("{x}", str(x)).replace("{y}", str(y)))
    return urls


async def described_by(market, target):
    response = await market.http.get(target["tilejson_url"])
    assert response.status_code == 200, response.text
    return response.json()


async def used(market, kind):
    assert await market.house.meter.flush()
    [row] = await market.sql("SELECT coalesce(sum(amount), 0)::int AS n FROM usage_day WHERE kind = %s", kind)
    return row["n"]


async def test_a_visitor_looks_downloads_and_is_shut_out(gallery):
    link = await share(gallery, permission="download")
    target = await visit(gallery, link)
    described = await described_by(gallery, target)
    assert described["tilejson"] == "3.0.0"
    assert link["token"] not in described["tiles"][0]
    urls = await tile_urls(gallery, described)
    before = await used(gallery, "shared_tile_requests")
    own = await used(gallery, "tile_requests")
    for url in urls:
        response = await gallery.http.get(url)
        assert (response.status_code, response.headers["content-type"]) == (200, "image/png"), response.text
        assert response.headers["cache-control"].startswith("private")
        seen = np.asarray(Image.open(io.BytesIO(response.content)).convert("RGBA"))
        assert seen.shape == (256, 256, 4)
        assert seen[..., 3].any()
    again = await gallery.http.get(urls[0], headers={"If-None-Match": (await gallery.http.get(urls[0])).headers["etag"]})
    assert again.status_code == 304
    thumbnail = await gallery.http.get(target["thumbnail_url"])
    assert (thumbnail.status_code, thumbnail.headers["content-type"]) == (200, "image/jpeg"), thumbnail.text
    assert max(Image.open(io.BytesIO(thumbnail.content)).size) == 512
    assert await used(gallery, "shared_tile_requests") - before == len(urls) + 2
    assert await used(gallery, "tile_requests") == own

    [file] = target["assets"]
    whole = await gallery.http.get(file["url"])
    assert (whole.status_code, len(whole.content)) == (200, file["file_size_bytes"])
    part = await gallery.http.get(file["url"], headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    head = await gallery.http.head(file["url"])
    assert (head.status_code, head.headers["content-length"]) == (200, str(file["file_size_bytes"]))
    got = await gallery.home.op("share.link.get", {"link_id": link["id"]})
    assert got["tile_requests"] == len(urls) + 2
    assert got["egress_bytes"] == file["file_size_bytes"]
    assert [access["kind"] for access in got["accesses"]] == ["download", "tilejson", "validate"]
    assert {access["ip_prefix"] for access in got["accesses"]} == {"127.0.0.0/24"}

    await gallery.home.op("share.link.revoke", {"link_id": link["id"]})
    for url in (urls[0], file["url"], target["tilejson_url"], target["thumbnail_url"]):
        response = await gallery.http.get(url)
        assert (response.status_code, problem_of(response)["code"]) == (410, "share_expired"), url
    refused = await gallery.http.post("/v1/op/share.link.validate", json=opening(link))
    assert (refused.status_code, problem_of(refused)["code"]) == (410, "share_expired")


async def test_a_map_may_send_the_password_with_every_tile(gallery):
    link = await share(gallery)
    described = await described_by(gallery, await visit(gallery, link))
    *_, z, x, y = re.split(r"[/.]", (await tile_urls(gallery, described))[0].removesuffix(".png"))
    asked = opening(link, z=int(z), x=int(x), y=int(y))
    tiles = await asyncio.gather(*(gallery.http.post("/v1/op/share.tile.render", json=asked) for _ in range(20)))
    assert {tile.status_code for tile in tiles} == {200}, tiles[0].text
    assert {tile.headers["content-type"] for tile in tiles} == {"image/png"}
    webp = await gallery.http.get("/v1/op/share.tile.render", params={**asked, "format": "webp"})
    assert (webp.status_code, webp.headers["content-type"]) == (200, "image/webp")
    for wrong, expected in (
        ({"password": "wrong and wrong"}, (403, "invalid_share_password")),
        ({"token": "A" * 43}, (404, "not_found")),
        ({"z": 25}, (422, "invalid_input")),
        ({"x": 2 ** int(z)}, (422, "invalid_input")),
        ({"format": "gif"}, (422, "invalid_input")),
        ({"profile": "nothing like it"}, (404, "not_found")),
        ({"item_id": gallery.other_id}, (404, "not_found")),
    ):
        refused = await gallery.http.post("/v1/op/share.tile.render", json={**asked, **wrong})
        assert (refused.status_code, problem_of(refused)["code"]) == expected, wrong


async def test_an_address_for_one_item_leads_to_no_other(gallery):
    link = await share(gallery, permission="download")
    target = await visit(gallery, link)
    [file] = target["assets"]
    url = (await tile_urls(gallery, await described_by(gallery, target)))[0]
    [others] = (await gallery.home.op("items.list_assets", {"item_id": gallery.other_id}))["assets"]
    for other in (
        url.replace(gallery.item_id, gallery.other_id),
        url.replace(gallery.item_id, new_id()),
        url.replace(gallery.item_id, "x"),
        file["url"].replace(file["id"], others["id"]),
        file["url"].replace(file["id"], "x"),
        target["tilejson_url"].replace(gallery.item_id, gallery.other_id),
        target["thumbnail_url"].replace(gallery.item_id, gallery.other_id),
    ):
        response = await gallery.http.get(other)
        assert (response.status_code, problem_of(response)["code"]) == (404, "not_found"), other
    ticket = url.partition("/shares/")[2].partition("/")[0]
    for way in (f"/api/v1/items/{gallery.item_id}/tiles/k/{ticket}/0/0/0.png", f"/v1/op/items.get?item_id={gallery.item_id}"):
        response = await gallery.http.get(way, headers={"Authorization": f"Bearer {ticket}"} if "/op/" in way else {})
        assert response.status_code in {401, 404}
    with_other_profile = f"{url}?profile={await profile_of(gallery, gallery.other_id)}"
    response = await gallery.http.get(with_other_profile)
    assert (response.status_code, problem_of(response)["code"]) == (404, "not_found")


async def profile_of(gallery, item_id) -> str:
    """Returns the id of a profile that only this item has."""
    made = await gallery.home.op(
        "visualization.profile.create",
        {"item_id": item_id, "name": f"Own {new_id()}", "type": "singleband", "config": {"band": 1}},
    )
    return str(made["id"])


async def test_a_collection_is_shown_item_by_item(gallery):
    [row] = await gallery.sql("SELECT collection_id FROM item WHERE id = %s", gallery.item_id)
    link = await share(gallery, target_type="collection", target_id=row["collection_id"])
    target = await visit(gallery, link)
    assert [item["id"] for item in target["items"]] == [gallery.item_id]
    url = (await tile_urls(gallery, await described_by(gallery, target["items"][0])))[0]
    assert (await gallery.http.get(url)).status_code == 200
    assert (await gallery.http.get(url.replace(gallery.item_id, gallery.other_id))).status_code == 404
    unnamed = await gallery.http.post("/v1/op/share.tilejson", json=opening(link))
    assert unnamed.status_code == 422
    assert unnamed.json()["detail"][0]["loc"] == ["body", "item_id"]


async def test_tiles_stop_where_the_plan_of_the_sharer_ends(gallery):
    link = await share(gallery)
    url = (await tile_urls(gallery, await described_by(gallery, await visit(gallery, link))))[0]
    assert (await gallery.http.get(url)).status_code == 200
    await used(gallery, "shared_tile_requests")
    await gallery.sql("UPDATE plan SET included = included || '{\"tile_requests\": 1}' WHERE id = 'free'")
    try:
        response = await gallery.http.get(url)
        assert (response.status_code, problem_of(response)["code"]) == (429, "rate_limited")
        assert int(response.headers["retry-after"]) > 0
        assert not re.search(r"\d", response.json()["detail"])
    finally:
        await gallery.sql("UPDATE plan SET included = included || '{\"tile_requests\": 10000}' WHERE id = 'free'")


async def test_links_and_tickets_end_with_time(gallery, monkeypatch):
    link = await share(gallery, expires_at=iso(now() + timedelta(hours=30)))
    url = (await tile_urls(gallery, await described_by(gallery, await visit(gallery, link))))[0]
    monkeypatch.setattr(pipeline, "now", lambda: clock.now() + timedelta(hours=25))
    assert (await gallery.http.get(url)).status_code == 410
    url = (await tile_urls(gallery, await described_by(gallery, await visit(gallery, link))))[0]
    assert (await gallery.http.get(url)).status_code == 200
    monkeypatch.setattr(pipeline, "now", lambda: clock.now() + timedelta(hours=31))
    assert (await gallery.http.get(url)).status_code == 410
    assert (await gallery.http.post("/v1/op/share.link.validate", json=opening(link))).status_code == 410


async def test_guessing_stops_with_the_time_to_wait(gallery):
    link = await share(gallery)
    wrong = opening(link, password="wrong and wrong")
    answers = await asyncio.gather(*(gallery.http.post("/v1/op/share.link.validate", json=wrong) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [403] * 5 + [429] * 7
    locked = await gallery.http.post("/v1/op/share.link.validate", json=opening(link))
    assert (locked.status_code, problem_of(locked)["code"]) == (429, "too_many_attempts")
    assert 0 < int(locked.headers["retry-after"]) <= 900


async def test_a_key_in_the_path_opens_the_tiles_of_its_item_until_it_is_revoked(gallery):
    key = await gallery.home.op("items.tile_keys.create", {"name": "QGIS", "item_id": gallery.item_id})
    template = key["tile_url"]
    url = template.replace("{z}", "0").replace("{x}", "0").replace("{y}", "0")
    before = await used(gallery, "tile_requests")
    response = await gallery.http.get(url)
    assert (response.status_code, response.headers["content-type"]) == (200, "image/webp"), response.text
    assert await used(gallery, "tile_requests") == before + 1
    other = await gallery.http.get(url.replace(gallery.item_id, gallery.other_id))
    assert (other.status_code, problem_of(other)["code"]) == (404, "not_found")
    changed = url.replace(key["key"], key["key"][:-1] + ("A" if key["key"][-1] != "A" else "B"))
    assert (await gallery.http.get(changed)).status_code == 404
    await gallery.home.op("items.tile_keys.revoke", {"key_id": key["id"]})
    assert (await gallery.http.get(url)).status_code == 410


async def test_deleting_the_item_ends_its_shares_and_keys_for_good(gallery):
    [item_id] = (await gallery.delivered())["itemIds"]
    link = await share(gallery, target_id=item_id)
    key = await gallery.home.op("items.tile_keys.create", {"name": "QGIS", "item_id": item_id})
    url = (await tile_urls(gallery, await described_by(gallery, await visit(gallery, link))))[0]
    await gallery.home.op("items.delete", {"item_id": item_id})
    assert (await gallery.http.get(url)).status_code == 410
    await gallery.home.op("items.restore", {"item_id": item_id})
    assert (await gallery.http.get(url)).status_code == 410
    assert (await gallery.http.get(key["tile_url"].replace("{z}/{x}/{y}", "0/0/0"))).status_code == 410
    assert (await gallery.home.op("share.link.get", {"link_id": link["id"]}))["share_link"]["status"] == "revoked"


async def test_a_file_that_is_gone_is_told_of_without_where_it_lay(gallery):
    [item_id] = (await gallery.delivered())["itemIds"]
    described = await described_by(gallery, target := await visit(gallery, await share(gallery, target_id=item_id)))
    [asset] = (await gallery.home.op("items.list_assets", {"item_id": item_id}))["assets"]
    (gallery.house.settings.data_dir / "objects" / asset["href"]).unlink()
    # Another version is another file to the readers, so that nothing kept in memory hides that it is gone.
    await gallery.sql("UPDATE asset SET checksum = 'sha256:other', updated_at = now() WHERE id = %s", asset["id"])
    for url in ((await tile_urls(gallery, described))[-1], target["thumbnail_url"], target["tilejson_url"]):
        response = await gallery.http.get(url)
        assert (response.status_code, problem_of(response)["code"]) == (502, "upstream_error"), url
        for hidden in ("objects", "projects", ".tif", str(gallery.house.settings.data_dir)):
            assert hidden not in response.text


async def test_a_suspended_sharer_shares_nothing(gallery):
    link = await share(gallery)
    url = (await tile_urls(gallery, await described_by(gallery, await visit(gallery, link))))[0]
    organization_id = gallery.place.home.organization_id
    operator = await gallery.operator()
    await operator.op("billing.admin.suspend", {"organization_id": organization_id, "reason": "unpaid"})
    try:
        assert (await gallery.http.get(url)).status_code == 410
        assert (await gallery.http.post("/v1/op/share.link.validate", json=opening(link))).status_code == 410
        assert await gallery.home.refused("share.link.create", link_to(gallery.item_id)) == (403, "org_suspended")
    finally:
        await operator.op("billing.admin.unsuspend", {"organization_id": organization_id})
    assert (await gallery.http.get(url)).status_code == 200


async def test_no_secret_of_a_share_is_written_down(gallery, caplog):
    link = await share(gallery)
    await visit(gallery, link)
    await gallery.http.get("/v1/op/share.link.validate", params=opening(link))
    await gallery.house.kernel.reads_audit.flush()
    tables = await gallery.sql("SELECT table_name AS name FROM information_schema.tables WHERE table_schema = 'public'")
    for table in tables:
        stored = await gallery.sql(f'SELECT t::text AS text FROM "{table["name"]}" t')
        text = "\n".join(row["text"] for row in stored)
        assert link["token"] not in text, table["name"]
        assert SHARE_PASSWORD not in text, table["name"]
    ours = "\n".join(record.getMessage() for record in caplog.records if not record.name.startswith("httpx"))
    assert link["token"] not in ours
    assert SHARE_PASSWORD not in ours
