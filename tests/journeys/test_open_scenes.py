"""What anybody may learn of open scenes and samples, over HTTP and without a credential."""

from __future__ import annotations

import asyncio
import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from support.open_scenes import SENTINEL_ID, open_showcase, sample_item, sentinel_item
from support.scenes import ARCHIVE
from support.serving import problem_of
from support.stac_api import StacApi, real_items


@pytest.fixture
def api():
    naip = [each for each in real_items("pystac_client_items.json") if each.get("collection") == "naip"][:20]
    with StacApi([*real_items("100-s2.json"), *real_items("100-landsat.json"), *naip]) as running:
        yield running


@pytest.fixture
async def sources(server, api):
    listed = [
        {**ARCHIVE["collections"][0], "id": each, "access_model": "open"}
        for each in ("sentinel-2-l2a", "landsat-c2-l2", "naip")
    ]
    row = {**ARCHIVE, "id": "open-host", "title": "Open", "access_model": "open", "vendor": "open-host", "collections": listed}
    operator = await server.operator()
    await operator.op("catalog.admin.source_save", {**row, "connector": {"kind": "stac", "url": api.url}})
    await operator.op("catalog.admin.source_save", {"id": "earthsearch-aws", "active": False})


async def told(server, operation_id, **given):
    response = await server.http.get(f"{server.base_url}/v1/op/{operation_id}", params=given)
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_sentinel_scene(server, sources):
    item = real_items("100-s2.json")[0]
    info = await told(server, "catalog.info.sentinel", scene_id=item["id"])
    assert {key: info[key] for key in ("mission", "product_level", "tile", "orbit", "baseline", "epsg")} == {
        "mission": "Sentinel-2B", "product_level": "L2A", "tile": "13TDE", "orbit": 98, "baseline": "05.11", "epsg": 32613,
    }  # fmt: skip
    assert info["datetime"] == item["properties"]["datetime"]
    bands = {band["name"]: band for band in info["bands"]}
    assert bands["nir"] == {"name": "nir", "resolution": 10.0, "href": item["assets"]["B08"]["href"]}
    assert list(bands)[:4] == ["coastal", "blue", "green", "red"]
    assert {"rededge1", "rededge2", "rededge3", "nir08", "swir16", "swir22"} <= bands.keys()
    assert info["visualizations"][0] == {"id": "true_color", "label": "True colour"}
    assert {"ndvi", "false_color"} <= {each["id"] for each in info["visualizations"]}
    assert (info["minzoom"], info["maxzoom"]) == (9, 14)
    west, south, east, north = info["bounds"]
    assert west < east < -104.8
    assert 39.6 < south < north < 40.7


async def test_a_landsat_scene_and_its_name_while_the_host_is_down(server, sources, api):
    item = real_items("100-landsat.json")[0]
    info = await told(server, "catalog.info.landsat", scene_id=item["id"])
    assert (info["path"], info["row"], info["tier"], info["processed"]) == (33, 32, "T1", None)
    assert info["bounds"][0] < info["bounds"][2]
    api.fail(500)
    down = await told(server, "catalog.info.landsat", scene_id="LC08_L2SP_033032_20241127_20241203_02_T1")
    assert (down["bounds"], down["processed"]) == (None, "2024-12-03")
    assert "ndvi" in {each["id"] for each in down["visualizations"]}


async def test_a_host_is_asked_once_for_all_who_ask_at_once(server, sources, api):
    url = f"{server.base_url}/v1/op/catalog.info.sentinel"
    for scene_id, status in ((real_items("100-s2.json")[0]["id"], 200), ("S2A_29RKH_20200219_0_L2A", 404)):
        before = len(api.searches)
        asking = (server.http.get(url, params={"scene_id": scene_id}) for _ in range(12))
        assert {response.status_code for response in await asyncio.gather(*asking)} == {status}
        assert len(api.searches) == before + 1


async def test_a_naip_scene(server, sources):
    item = next(each for each in real_items("pystac_client_items.json") if each.get("collection") == "naip")
    info = await told(server, "catalog.info.naip", scene_id=item["id"])
    assert (info["state"], info["year"], info["gsd"], info["epsg"]) == ("mt", 2023, 0.6, 26911)
    assert info["href"] == item["assets"]["image"]["href"]
    assert [band["name"] for band in info["bands"]] == ["blue", "green", "red", "nir"]


async def test_what_cannot_be_read_or_is_not_there(server, sources, api):
    url = f"{server.base_url}/v1/op/catalog.info."
    for family in ("sentinel", "landsat", "naip"):
        assert problem_of(await server.http.get(url + family, params={"scene_id": "no name"}))["status"] == 422
    missing = {
        "sentinel": "S2A_29RKH_20200219_0_L2A",
        "landsat": "LC08_L2SP_001062_20201031_02_T2",
        "naip": "m_3008501_ne_16_1_20110815",
    }
    for family, scene_id in missing.items():
        assert problem_of(await server.http.get(url + family, params={"scene_id": scene_id}))["status"] == 404
    api.fail(500)
    assert problem_of(await server.http.get(url + "sentinel", params={"scene_id": "S2A_30RKH_20200219_0_L2A"}))["status"] == 502


async def test_the_pictures_of_families(server):
    landsat = (await told(server, "catalog.viz.landsat"))["visualizations"]
    [ndvi] = [each for each in landsat if each["id"] == "ndvi"]
    assert ndvi["expression"].count("2.75") == 0 or "b4" in ndvi["expression"]
    assert landsat[0]["bands"] == ["red", "green", "blue"]
    naip = (await told(server, "catalog.viz.naip"))["visualizations"]
    assert naip[0]["id"] == "true_color"
    assert {"id", "label", "kind", "description"} <= naip[0].keys()


async def test_samples(server, shared_data):
    private = {**sample_item(shared_data, **{"geopera:sample": False}), "id": "SOLD"}
    await open_showcase(server, sample_item(shared_data), private)
    listed = await told(server, "catalog.providers.list")
    [provider] = [each for each in listed["providers"] if each["id"] == "showcase"]
    assert provider == {"id": "showcase", "name": "Showcase", "sensors": ["umbra-05"], "sample_count": 1}
    [sensor] = [each for each in listed["sensors"] if each["id"] == "umbra-05"]
    assert (sensor["resolution"], sensor["bands"]) == (0.59, ["b1"])
    page = await told(server, "catalog.provider.samples", provider="showcase")
    assert [each["scene_id"] for each in page["samples"]] == ["YASUR"]
    assert page["total"] == 1
    info = await told(server, "catalog.info.sample", provider="showcase", scene_id="YASUR")
    assert str(shared_data) not in str(info)
    assert info["bounds"] == [169.43, -19.54, 169.45, -19.52]
    assert "collection=sample" in info["thumbnail_url"]
    for wrong in ({"provider": "showcase", "scene_id": "SOLD"}, {"provider": "nobody", "scene_id": "YASUR"}):
        assert problem_of(await server.http.get(f"{server.base_url}/v1/op/catalog.info.sample", params=wrong))["status"] == 404
    nobody = await server.http.get(f"{server.base_url}/v1/op/catalog.provider.samples", params={"provider": "nobody"})
    assert problem_of(nobody)["status"] == 404


async def with_sentinel_tiles(server, shared_data):
    await open_showcase(server, sentinel_item(shared_data))
    tile = {"z": 8, "x": 119, "y": 109, "format": "png"}
    return {"collection": "sentinel", "scene_id": SENTINEL_ID, "visualization": "true_color", **tile}


def pixels(response):
    assert response.status_code == 200, response.text
    return np.asarray(Image.open(io.BytesIO(response.content)).convert("RGBA"))


async def test_tiles_of_a_scene_in_files_of_its_own(server, shared_data):
    asked = await with_sentinel_tiles(server, shared_data)
    url = f"{server.base_url}/v1/op/catalog.tile.render"
    response = await server.http.get(url, params=asked)
    assert response.headers["cache-control"] == "public, max-age=3600"
    assert response.headers["vary"] == "Accept, Origin"
    picture = pixels(response)
    drawn = picture[..., 3] > 0
    assert 0.3 < drawn.mean() < 0.5
    assert picture[drawn][:, :3].std(axis=0).min() > 20
    again = await server.http.get(url, params=asked, headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    weak = {"If-None-Match": f'"other", W/{response.headers["etag"]}'}
    assert (await server.http.get(url, params=asked, headers=weak)).status_code == 304
    index = pixels(await server.http.get(url, params={**asked, "visualization": "ndvi"}))
    assert (index[..., 3] > 0).mean() == pytest.approx(drawn.mean(), abs=0.01)
    own = {
        **asked,
        "visualization": "custom",
        "expression": "(nir - red) / (nir + red)",
        "rescale": "-1,1",
        "colormap": "RdYlGn",
    }
    numbered = {**own, "expression": "(b8-b4)/(b8+b4)"}
    assert (pixels(await server.http.get(url, params=own)) == pixels(await server.http.get(url, params=numbered))).all()
    nowhere = pixels(await server.http.get(url, params={**asked, "x": 10, "y": 10}))
    assert nowhere.max() == 0


async def test_a_tile_is_clipped_to_an_area_however_it_is_written(server, shared_data):
    asked = await with_sentinel_tiles(server, shared_data)
    url = f"{server.base_url}/v1/op/catalog.tile.render"
    aoi = {"type": "Polygon", "coordinates": [[[-11.5, 24.6], [-11.3, 24.6], [-11.3, 24.8], [-11.5, 24.8], [-11.5, 24.6]]]}
    text = json.dumps(aoi)
    whole = pixels(await server.http.get(url, params=asked))
    clipped = pixels(await server.http.get(url, params={**asked, "aoi_clip": text}))
    encoded = pixels(await server.http.get(url, params={**asked, "aoi_clip": base64.urlsafe_b64encode(text.encode()).decode()}))
    posted = pixels(await server.http.post(url, json={**asked, "aoi_clip_body": aoi}))
    assert (clipped == encoded).all()
    assert (clipped == posted).all()
    assert 0 < (clipped[..., 3] > 0).sum() < (whole[..., 3] > 0).sum() / 3


WRONG = [
    ({"visualization": "nothing"}, "visualization"),
    ({"format": "tiff"}, "format"),
    ({"expression": "__import__('os')"}, "expression"),
    ({"expression": "b99"}, "expression"),
    ({"colormap": "viridis"}, "colormap"),
    ({"visualization": "ndvi", "colormap": "nothing"}, "colormap"),
    ({"rescale": "5"}, "rescale"),
    ({"z": 25}, "z"),
    ({"x": 256}, "x"),
    ({"collection": "sample"}, "provider"),
    ({"collection": "modis"}, "collection"),
    ({"scene_id": "no name"}, "scene_id"),
    ({"aoi_clip": "%%%"}, "aoi_clip"),
    ({"quality": 101}, "quality"),
]


async def test_what_cannot_be_drawn(server, shared_data):
    asked = await with_sentinel_tiles(server, shared_data)
    for wrong, loc in WRONG:
        response = await server.http.get(f"{server.base_url}/v1/op/catalog.tile.render", params={**asked, **wrong})
        problem = problem_of(response)
        assert problem["status"] == 422, (wrong, problem)
        assert problem["detail"][0]["loc"][:2] == ["body", loc], (wrong, problem)


async def test_a_file_outside_the_source_folders_is_not_drawn(server, shared_data, tmp_path):
    asked = await with_sentinel_tiles(server, shared_data)
    await server.sql(
        "UPDATE scene SET assets = jsonb_set(assets, '{red,href}', to_jsonb(%s::text)) WHERE host = 'showcase'", "/etc/passwd"
    )
    response = await server.http.get(f"{server.base_url}/v1/op/catalog.tile.render", params=asked)
    assert problem_of(response)["status"] == 422
    assert "/etc" not in response.text
    info = await told(server, "catalog.info.sentinel", scene_id=asked["scene_id"])
    assert "/etc" not in str(info)
    assert str(shared_data) not in str(info)
