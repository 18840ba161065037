"""The addresses that clients of imagery marketplaces know."""

from __future__ import annotations

from support.serving import problem_of
from support.uploads import begun, sent, until_processed

UNKNOWN = "01990000-0000-7000-8000-000000000000"


async def test_a_file_is_given_out_by_its_id(server, shared_data):
    upload_id = await begun(server.home, server.place.home.project_id)
    scene = shared_data / "imagery" / "sentinel-2-l2a_S2A_29RKH_20200219" / "TCI.tif"
    await sent(server, upload_id, {scene.name: scene})
    done = await server.home.op("uploads.complete", {"upload_id": upload_id, "datetime": "2020-02-19T11:34:25Z"})
    await until_processed(server, upload_id)
    [asset] = (await server.home.op("items.list_assets", {"item_id": done["item_id"]}))["assets"]

    async def asked(asset_id, key, prefix=""):
        address = f"{server.base_url}{prefix}/assets/{asset_id}/download-url"
        return await server.http.post(address, headers={"X-API-Key": key})

    home, stranger = server.place.home.api_key, server.place.stranger.api_key
    for prefix in ("", "/v2"):
        response = await asked(asset["id"], home, prefix)
        assert response.status_code == 200, response.text
        assert len((await server.http.get(response.json()["url"])).content) == asset["file_size_bytes"]
    refusals = [await asked(asset["id"], stranger), await asked(UNKNOWN, home), await asked("nothing", home)]
    assert {problem_of(each)["detail"] for each in refusals} == {"There is no such asset."}
    await server.home.op("items.delete", {"item_id": done["item_id"]})
    assert problem_of(await asked(asset["id"], home))["status"] == 404


async def test_a_host_is_searched_at_its_own_address(server):
    address = f"{server.base_url}/catalog/hosts/test-archive/stac/search"
    headers = {"X-API-Key": server.place.home.api_key}
    missing = await server.http.post(address, json={"limit": 3}, headers=headers)
    assert problem_of(missing)["status"] == 404
    wrong = await server.http.post(
        f"{server.base_url}/v2/catalog/hosts/vantor/stac/search", json={"bbox": [1]}, headers=headers
    )
    problem = problem_of(wrong)
    assert problem["status"] == 422
    assert problem["error"] == {"message": problem["detail"][0]["msg"]}
    found = await server.http.post(f"{server.base_url}/catalog/hosts/vantor/stac/search", json={"limit": 3}, headers=headers)
    assert found.json()["type"] == "FeatureCollection"
    picture = await server.http.get(f"{server.base_url}/catalog/vantor/image/nothing/quicklook", headers=headers)
    assert problem_of(picture)["status"] == 404
