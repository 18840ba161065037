"""The STAC API as the field's own clients use it: pystac-client, odc-stac, GDAL's STACIT and the STAC API's validator."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest
import rasterio
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from rasterio.windows import Window

from geopera_server.domains.items.stac import RASTER
from geopera_server.domains.items.stac_extension import GEOPERA_EXTENSION_PATH, extension_schema
from geopera_server.raster.cog import array_to_cog
from support.serving import problem_of
from support.stac_api import real_items
from support.uploads import begun, sent, until_processed

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
ROOT = "/assets/stac"
COLORADO = [-109.1, 36.9, -101.9, 41.1]


def headers(server):
    return {"X-API-Key": server.place.home.api_key}


async def get(server, path, status=200, **query):
    response = await server.http.get(f"{server.base_url}{ROOT}{path}", params=query, headers=headers(server))
    assert response.status_code == status, response.text
    return response.json()


@pytest.fixture
def validator(server, shared_data):
    """Validates against the stored schemas of STAC and our own."""
    folder = shared_data / "stac-schemas"
    checks = JsonSchemaSTACValidator()
    for file in folder.rglob("*.json"):
        checks.schema_cache[f"https://{file.relative_to(folder)}"] = json.loads(file.read_text())
    checks.schema_cache[RASTER] = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": RASTER}
    checks.schema_cache[server.base_url + GEOPERA_EXTENSION_PATH] = extension_schema(server.base_url)
    return checks


@pytest.fixture
async def metadata(server):
    """Forty real Sentinel-2 items, registered by their metadata in one collection."""
    project_id = server.place.home.project_id
    collection = await server.home.op("collections.create", {"project_id": project_id, "name": "Colorado"})
    for item in real_items("100-s2.json")[:40]:
        told = item["properties"]
        properties = {name: told[name] for name in ("platform", "s2:mgrs_tile", "s2:snow_ice_percentage")}
        given = {"name": item["id"], "stac_id": item["id"], "type": "external_reference", "geometry": item["geometry"]}
        given |= {"datetime": told["datetime"], "cloud_cover": told["eo:cloud_cover"], "gsd": 10.0, "properties": properties}
        given["assets"] = [
            {"key": "data", "href": item["assets"]["B08"]["href"], "media_type": "image/tiff", "roles": ["data"]}
        ]
        await server.home.op("items.create", {"project_id": project_id, "collection_id": collection["id"], **given})
    return collection["id"]


@pytest.fixture
async def halves(server, shared_data, tmp_path):
    """Two uploaded rasters side by side: the western and the eastern half of a Sentinel-2 crop."""
    scene = shared_data / "imagery" / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"
    ids = []
    project_id = server.place.home.project_id
    collection = await server.home.op("collections.create", {"project_id": project_id, "name": "Bolzano"})
    with rasterio.open(scene) as source:
        names = ["red", "green", "blue", "nir"]
        for number, columns in enumerate(((0, 460), (460, source.width))):
            window = Window(columns[0], 0, columns[1] - columns[0], source.height)
            file = tmp_path / f"half{number}.tif"
            array = source.read([1, 2, 3, 4], window=window)
            array_to_cog(array, file, crs=source.crs, transform=source.window_transform(window), nodata=0, band_names=names)
            upload_id = await begun(server.home, project_id)
            await sent(server, upload_id, {file.name: file})
            given = {"upload_id": upload_id, "name": f"half{number}", "datetime": "2022-06-12T10:10:31Z", "band_names": names}
            given["collection_id"] = collection["id"]
            done = await server.home.op("uploads.complete", given)
            upload = await until_processed(server, upload_id)
            assert upload["detected_metadata"]["processing"] == "done", upload
            ids.append(done["item_id"])
        whole = source.read([1, 2, 3, 4])
    return ids, whole


async def test_what_the_api_says_of_itself_is_for_everybody(server):
    landing = (await server.http.get(f"{server.base_url}{ROOT}")).json()
    assert (landing["type"], landing["stac_version"]) == ("Catalog", "1.0.0")
    links = {link["rel"] for link in landing["links"]}
    assert {"self", "root", "conformance", "data", "search", "service-desc"} <= links
    conformance = (await server.http.get(f"{server.base_url}{ROOT}/conformance")).json()
    assert conformance["conformsTo"] == landing["conformsTo"]
    assert (await server.http.get(f"{server.base_url}{ROOT}/api")).json()["openapi"] == "3.0.3"
    for path in ("/collections", "/search", "/queryables", "/collections/x/items"):
        assert problem_of(await server.http.get(f"{server.base_url}{ROOT}{path}"))["status"] == 401


async def test_pystac_client_finds_what_is_there(server, metadata, validator):
    def use():
        from pystac_client import Client

        client = Client.open(f"{server.base_url}{ROOT}", headers=headers(server))
        [collection] = list(client.get_collections())
        assert (collection.id, collection.title) == (metadata, "Colorado")
        assert len(list(collection.get_items())) == 40
        everything = client.search(limit=7)
        assert everything.matched() == 40
        ids = [item.id for item in everything.items()]
        assert len(ids) == len(set(ids)) == 40
        clear = client.search(
            bbox=COLORADO,
            datetime="2024-06-01/2024-12-31",
            filter_lang="cql2-json",
            filter={"op": "and", "args": [
                {"op": "<", "args": [{"property": "eo:cloud_cover"}, 20]},
                {"op": "=", "args": [{"property": "s2:mgrs_tile"}, "13TDE"]},
            ]},
            sortby="-properties.eo:cloud_cover",
            limit=3,
        )  # fmt: skip
        found = list(clear.items())
        covers = [item.properties["eo:cloud_cover"] for item in found]
        assert covers == sorted(covers, reverse=True)
        assert all(cover < 20 for cover in covers)
        expected = [
            item for item in real_items("100-s2.json")[:40]
            if item["properties"]["eo:cloud_cover"] < 20 and item["properties"]["s2:mgrs_tile"] == "13TDE"
            and "2024-06-01" <= item["properties"]["datetime"] < "2025"
        ]  # fmt: skip
        assert {item.id for item in found} == {item["id"] for item in expected}
        assert expected
        by_get = client.search(method="GET", filter='"eo:cloud_cover" < 20', filter_lang="cql2-text", limit=5)
        assert len(list(by_get.items())) == sum(i["properties"]["eo:cloud_cover"] < 20 for i in real_items("100-s2.json")[:40])
        cut = client.search(
            fields={"include": ["properties.gsd"], "exclude": ["geometry"]}, max_items=1
        ).item_collection_as_dict()
        assert cut["features"][0]["properties"] == {"gsd": 10.0}
        assert "geometry" not in cut["features"][0]
        one = collection.get_item(ids[0])
        assert one.id == ids[0]
        one.validate(validator)

    await asyncio.to_thread(use)


async def test_get_and_post_mean_the_same(server, metadata):
    item = real_items("100-s2.json")[0]
    everywhere = {"type": "Polygon", "coordinates": [[[-109, 36], [-101, 36], [-101, 42], [-109, 42], [-109, 36]]]}
    asked = [
        ({"bbox": "-109.1,36.9,-101.9,41.1", "limit": 3}, {"bbox": COLORADO, "limit": 3}),
        ({"ids": item["id"]}, {"ids": [item["id"]]}),
        ({"collections": metadata, "limit": 5}, {"collections": [metadata], "limit": 5}),
        ({"intersects": json.dumps(everywhere), "limit": 4}, {"intersects": everywhere, "limit": 4}),
        ({"sortby": "+properties.eo:cloud_cover,-id", "limit": 9},
         {"sortby": [{"field": "properties.eo:cloud_cover", "direction": "asc"}, {"field": "id", "direction": "desc"}], "limit": 9}),
        ({"query": json.dumps({"eo:cloud_cover": {"lt": 5}})}, {"query": {"eo:cloud_cover": {"lt": 5}}}),
    ]  # fmt: skip
    for query, body in asked:
        by_get = await get(server, "/search", **query)
        posted = await server.http.post(f"{server.base_url}{ROOT}/search", json=body, headers=headers(server))
        assert posted.status_code == 200, posted.text
        by_post = posted.json()
        assert [each["id"] for each in by_get["features"]] == [each["id"] for each in by_post["features"]] != []
        for found, method in ((by_get, "GET"), (by_post, "POST")):
            assert [link["method"] for link in found["links"] if link["rel"] == "next"] in ([], [method])


async def test_what_is_wrong_is_a_bad_request(server, metadata):
    for query in (
        {"bbox": "1,2,3"}, {"bbox": "[1,2,3,4]"}, {"datetime": "2024-01-31"}, {"bbox": "a,b,c,d"}, {"limit": "0"}, {"limit": "many"}, {"datetime": "yesterday"}, {"intersects": "{"},
        {"filter": "eo:cloud_cover <<", "filter-lang": "cql2-text"}, {"filter": "{}", "filter-lang": "cql2-json"},
        {"filter": "a = 1", "filter-lang": "sql"}, {"token": "forged"},
        {"bbox": "1,2,3,4", "intersects": json.dumps({"type": "Point", "coordinates": [1, 2]})},
    ):  # fmt: skip
        problem = await get(server, "/search", 400, **query)
        assert problem["description"]
    assert (await get(server, "/search", limit=1_000_000))["numberReturned"] == 40
    for path in ("/collections/nothing", f"/collections/{metadata}/items/nothing", "/collections/nothing/items", "/nothing"):
        await get(server, path, 404)


async def test_queryables_name_what_items_hold(server, metadata):
    for path in ("/queryables", f"/collections/{metadata}/queryables"):
        told = await get(server, path)
        assert told["$id"].endswith(path)
        assert {"eo:cloud_cover", "datetime", "s2:mgrs_tile"} <= told["properties"].keys()
        assert told["properties"]["s2:mgrs_tile"]["type"] == ["string"]


async def test_others_see_nothing_of_it(server, metadata):
    stranger = {"X-API-Key": server.place.stranger.api_key}
    item = real_items("100-s2.json")[0]["id"]

    async def seen(path):
        response = await server.http.get(f"{server.base_url}{ROOT}{path}", headers=stranger)
        return response.status_code, {**response.json(), "invocation_id": None}

    assert (await seen("/collections"))[1]["collections"] == []
    assert (await seen("/search"))[1]["numberMatched"] == 0
    assert (await seen(f"/search?collections={metadata}"))[1]["features"] == []
    unknown = "01990000-0000-7000-8000-000000000000"
    for path in ("/collections/{}", "/collections/{}/items", "/collections/{}/queryables", "/collections/{}/items/" + item):
        assert await seen(path.format(metadata)) == await seen(path.format(unknown))
        assert (await seen(path.format(metadata)))[0] == 404


async def test_odc_stac_loads_two_items_as_one_array(server, halves, validator):
    _, whole = halves

    def load():
        import odc.stac
        from pystac_client import Client

        client = Client.open(f"{server.base_url}{ROOT}", headers=headers(server))
        items = list(client.search(datetime="2022-06-12").items())
        assert len(items) == 2
        for item in items:
            item.validate(validator)
        return odc.stac.load(items, bands=["red", "nir"], crs="EPSG:32632", resolution=10, groupby="solar_day").compute()

    found = await asyncio.to_thread(load)
    assert (found["red"].shape, found.odc.crs.to_epsg()) == ((1, *whole.shape[1:]), 32632)
    assert (found["red"].values[0] == whole[0]).all()
    assert (found["nir"].values[0] == whole[3]).all()


async def test_gdal_opens_a_search_as_one_raster(server, halves):
    _, whole = halves

    def read():
        api = f"{server.base_url}{ROOT}/search?datetime=2022-06-12T00:00:00Z/2022-06-13T00:00:00Z"
        with rasterio.Env(GDAL_HTTP_AUTH="BEARER", GDAL_HTTP_BEARER=server.place.home.api_key):
            with rasterio.open(f'STACIT:"{api}":asset=data') as mosaic:
                return mosaic.crs.to_epsg(), mosaic.shape, mosaic.read()

    epsg, shape, pixels = await asyncio.to_thread(read)
    assert (epsg, shape) == (32632, whole.shape[1:])
    assert (pixels == whole).all()


async def test_the_validator_of_the_stac_api_has_nothing_to_say(server, metadata, halves, shared_data, tmp_path):
    (tmp_path / "sitecustomize.py").write_text(OFFLINE_SCHEMAS)
    area = {"type": "Polygon", "coordinates": [[[-109, 36], [-101, 36], [-101, 42], [-109, 42], [-109, 36]]]}
    classes = (
        "core",
        "features",
        "collections",
        "item-search",
        "filter",
        "item-search#sort",
    )
    command = [
        sys.executable, "-m", "stac_api_validator", "--root-url", f"{server.base_url}{ROOT}", "--collection", metadata,
        "--geometry", json.dumps(area), "-H", f"X-API-Key: {server.place.home.api_key}",
        *(part for each in classes for part in ("--conformance", each)),
    ]  # fmt: skip
    environment = {
        **os.environ,
        "PYTHONPATH": str(tmp_path),
        "STAC_SCHEMAS": str(shared_data / "stac-schemas"),
        "NO_PROXY": "*",
    }
    done = await asyncio.to_thread(
        subprocess.run, command, env=environment, capture_output=True, text=True, timeout=110, check=False
    )
    told = done.stdout + done.stderr
    assert "Errors: none" in told, told[-20000:]
    assert done.returncode == 0, told[-20000:]


OFFLINE_SCHEMAS = '''
"""Answers for the hosts of public schemas from a folder; the validator asks for them by their addresses."""
import io, os, pathlib, urllib.request
from urllib.parse import urlsplit

FOLDER = pathlib.Path(os.environ["STAC_SCHEMAS"])


def kept(url):
    parts = urlsplit(url)
    path = FOLDER / parts.netloc / parts.path.lstrip("/")
    return path.read_bytes() if path.is_file() else None


class Answer(io.BytesIO):
    status = 200
    headers = {}

    def info(self):
        return {}


opened = urllib.request.urlopen


def urlopen(request, *more, **others):
    url = request if isinstance(request, str) else request.full_url
    body = kept(url)
    return opened(request, *more, **others) if body is None else Answer(body)


urllib.request.urlopen = urlopen

import requests

asked = requests.Session.request


def request(session, method, url, *more, **others):
    body = kept(url)
    if body is None:
        return asked(session, method, url, *more, **others)
    answer = requests.Response()
    answer.status_code, answer._content, answer.url = 200, body, url
    answer.headers["Content-Type"] = "application/json"
    return answer


requests.Session.request = request
'''
