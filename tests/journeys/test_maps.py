"""A scene on people's maps: tiles over HTTP, TileJSON, keys in paths, and WMTS as GDAL reads it."""

from __future__ import annotations

import asyncio
import re
import warnings
from datetime import timedelta
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import pytest_asyncio
import rasterio
from rasterio.warp import transform_bounds
from rasterio.windows import from_bounds

from geopera_server.values.clock import iso, now
from support.pictures import BANDS, BOLZANO, BOLZANO_TILE, pictured_item, pixels, seen
from support.serving import problem_of

Z, X, Y = BOLZANO_TILE["z"], BOLZANO_TILE["x"], BOLZANO_TILE["y"]
OWS = "{http://www.opengis.net/ows/1.1}"
WMTS = "{http://www.opengis.net/wmts/1.0}"
XLINK = "{http://www.w3.org/1999/xlink}href"


@pytest_asyncio.fixture
async def scene(server, shared_data):
    return await pictured_item(server.house, server.place.home, ("data", shared_data / "imagery" / BANDS), more=BOLZANO)


def auth(actor):
    return {"Authorization": f"Bearer {actor.token}"}


@pytest.mark.asyncio
async def test_the_marketplaces_route(server, scene):
    address = f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}.png"
    got = await server.http.get(address, headers=auth(server.home))
    assert (got.status_code, got.headers["content-type"]) == (200, "image/png")
    assert got.headers["cache-control"] == "private, max-age=3600"
    assert seen(got.content) > 0.4
    by_key = await server.http.get(address, headers={"X-API-Key": server.home.token})
    assert by_key.content == got.content
    kept = await server.http.get(address, headers={**auth(server.home), "If-None-Match": got.headers["etag"]})
    assert (kept.status_code, kept.content) == (304, b"")
    under_v2 = await server.http.get(f"/v2{address}", headers=auth(server.home))
    assert under_v2.content == got.content
    wished = {"expression": "(nir-red)/(nir+red)", "rescale": "0,1", "colormap": "viridis"}
    ndvi = await server.http.get(address, headers=auth(server.home), params=wished)
    assert not np.array_equal(pixels(ndvi.content), pixels(got.content))
    assert (await server.http.head(address, headers=auth(server.home))).status_code == 200


@pytest.mark.asyncio
async def test_the_route_refuses_as_the_operation_does(server, scene):
    address = f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}.png"
    nobody = await server.http.get(address)
    assert (nobody.status_code, problem_of(nobody)["code"]) == (401, "unauthenticated")
    stranger = await server.http.get(address, headers=auth(server.stranger))
    unknown = await server.http.get(
        f"/api/v1/items/0198f1c2-0000-7000-8000-000000000000/tiles/{Z}/{X}/{Y}.png", headers=auth(server.stranger)
    )
    assert stranger.status_code == unknown.status_code == 404
    assert {**problem_of(stranger), "invocation_id": ""} == {**problem_of(unknown), "invocation_id": ""}
    for wrong in (f"{Z}/{X}/{Y}.bmp", f"{Z}/{X}/up.png", "25/0/0.png", f"{Z}/{X}/{2**Z}.png", "1/-1/0.png"):
        refused = await server.http.get(f"/api/v1/items/{scene['id']}/tiles/{wrong}", headers=auth(server.home))
        assert refused.status_code == 422, wrong
        problem_of(refused)


@pytest.mark.asyncio
async def test_the_operation_by_get_sends_the_same_bytes(server, scene):
    asked = {"item_id": scene["id"], "z": Z, "x": X, "y": Y, "format": "png"}
    by_get = await server.http.get("/v1/op/items.tile.render", params=asked, headers=auth(server.home))
    by_post = await server.home.post("items.tile.render", asked)
    by_route = await server.http.get(f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}.png", headers=auth(server.home))
    assert by_get.content == by_post.content == by_route.content
    inside = await server.home.post("items.tile.render", asked, Accept="application/json")
    assert inside.json()["media_type"] == "image/png"


@pytest.mark.asyncio
async def test_tilejson_opens_tiles_without_a_header_for_an_hour(server, scene, shared_data):
    found = await server.home.op("items.tile.tilejson", {"item_id": scene["id"], "profile": "ndvi"})
    address = found["tiles"][0].format(z=Z, x=X, y=Y)
    got = await server.http.get(address)
    assert got.status_code == 200
    ticket = re.search(r"/k/([^/]+)/", address)[1]
    by_query = await server.http.get(
        f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}.webp", params={"ticket": ticket, "profile": "ndvi"}
    )
    assert by_query.content == got.content
    file = shared_data / "imagery" / BANDS
    other = await pictured_item(server.house, server.place.home, ("data", file), more=BOLZANO, stac_id="OTHER")
    elsewhere = await server.http.get(address.replace(scene["id"], other["id"]))
    assert (elsewhere.status_code, problem_of(elsewhere)["code"]) == (404, "not_found")
    forged = await server.http.get(address.replace(ticket, ticket[:-1] + ("A" if ticket[-1] != "A" else "B")))
    assert forged.status_code == 404
    as_credential = await server.http.get("/v1/op/items.get", params={"item_id": scene["id"]}, headers={"X-API-Key": ticket})
    assert as_credential.status_code == 401


@pytest.mark.asyncio
async def test_a_ticket_makes_no_new_ticket(server, scene):
    found = await server.home.op("items.tile.tilejson", {"item_id": scene["id"]})
    ticket = re.search(r"/k/([^/]+)/", found["tiles"][0])[1]
    again = await server.http.get(f"/api/v1/items/{scene['id']}/tiles/k/{ticket}/tilejson.json")
    assert again.json()["tiles"] == found["tiles"]
    capabilities = await server.http.get(
        f"/api/v1/items/{scene['id']}/wmts", params={"SERVICE": "WMTS", "REQUEST": "GetCapabilities", "ticket": ticket}
    )
    assert set(re.findall(r"/wmts/k/([^/?\"]+)", capabilities.text)) == {ticket}


@pytest.mark.asyncio
async def test_a_tile_key_stays_in_the_path_and_ends_when_it_is_revoked(server, scene):
    made = await server.home.op(
        "items.tile_keys.create", {"name": "QGIS", "item_id": scene["id"], "expires_at": iso(now() + timedelta(days=30))}
    )
    address = f"/api/v1/items/{scene['id']}/tiles/k/{made['key']}/{Z}/{X}/{Y}.png"
    assert seen((await server.http.get(address)).content) > 0.4
    wmts = f"/api/v1/items/{scene['id']}/wmts/k/{made['key']}"
    listed = await server.http.get(wmts, params={"service": "WMTS", "request": "GetCapabilities"})
    assert made["key"] in listed.text
    await server.home.op("items.tile_keys.revoke", {"key_id": made["id"]})
    ended = await server.http.get(address)
    assert (ended.status_code, problem_of(ended)["code"]) == (410, "share_expired")
    report = await server.http.get(wmts, params={"service": "WMTS", "request": "GetCapabilities"})
    assert report.status_code == 410
    assert ET.fromstring(report.content).tag == f"{OWS}ExceptionReport"


@pytest.mark.asyncio
async def test_wmts_capabilities_have_a_layer_for_each_picture(server, scene):
    made = await server.home.op(
        "visualization.profile.create",
        {
            "item_id": scene["id"],
            "name": "Heat & <light>",
            "type": "singleband",
            "config": {"band": "B08", "colormap": "magma"},
        },
    )
    asked = {"item_id": scene["id"], "base_url": server.base_url}
    got = await server.home.post("items.tile.wmts_capabilities", asked)
    assert got.headers["content-type"].startswith("application/xml")
    root = ET.fromstring(got.content)
    layers = {layer.findtext(f"{OWS}Identifier"): layer for layer in root.iter(f"{WMTS}Layer")}
    assert {made["id"], "true_color", "ndvi", "band_4"} <= layers.keys()
    assert layers[made["id"]].findtext(f"{OWS}Title") == "Heat & <light>"
    assert root.find(f".//{WMTS}TileMatrixSet/{OWS}Identifier").text == "GoogleMapsCompatible"
    resource = layers["ndvi"].find(f"{WMTS}ResourceURL").attrib
    address = resource["template"].format(TileMatrixSet="GoogleMapsCompatible", TileMatrix=Z, TileRow=Y, TileCol=X)
    rest = await server.http.get(address)
    assert (rest.status_code, rest.headers["content-type"]) == (200, resource["format"])
    kvp = root.find(f".//{OWS}Get").attrib[XLINK]
    asked = {
        "SERVICE": "WMTS", "VERSION": "1.0.0", "REQUEST": "GetTile", "LAYER": "ndvi", "STYLE": "default", "FORMAT": "image/png",
        "TILEMATRIXSET": "GoogleMapsCompatible", "TILEMATRIX": str(Z), "TILEROW": str(Y), "TILECOL": str(X),
    }  # fmt: skip
    by_kvp = await server.http.get(kvp.rstrip("?"), params=asked)
    assert by_kvp.content == rest.content
    only = await server.home.post("items.tile.wmts_capabilities", {**asked_for(scene, server), "profile": made["id"]})
    assert [each.findtext(f"{OWS}Identifier") for each in ET.fromstring(only.content).iter(f"{WMTS}Layer")] == [made["id"]]


def asked_for(scene, server):
    return {"item_id": scene["id"], "base_url": server.base_url}


@pytest.mark.asyncio
@pytest.mark.parametrize(("wrong", "status", "code", "locator"), [
    ({"SERVICE": "WMS"}, 400, "InvalidParameterValue", "SERVICE"), ({"REQUEST": None}, 400, "MissingParameterValue", "REQUEST"),
    ({"REQUEST": "GetFeatureInfo"}, 400, "OperationNotSupported", "REQUEST"), ({"LAYER": None}, 400, "MissingParameterValue", "LAYER"),
    ({"TILEROW": "x"}, 400, "InvalidParameterValue", "TILEROW"), ({"TILECOL": "999999"}, 400, "TileOutOfRange", "TILECOL"),
    ({"TILEMATRIX": "25"}, 400, "InvalidParameterValue", "TILEMATRIX"), ({"FORMAT": "image/gif"}, 400, "InvalidParameterValue", "FORMAT"),
    ({"TILEMATRIXSET": "Other"}, 400, "InvalidParameterValue", "TILEMATRIXSET"), ({"LAYER": "none"}, 404, "NoApplicableCode", None),
])  # fmt: skip
async def test_wmts_errors_are_exception_reports(server, scene, wrong, status, code, locator):
    good = {
        "SERVICE": "WMTS", "REQUEST": "GetTile", "LAYER": "ndvi", "FORMAT": "image/png", "TILEMATRIXSET": "GoogleMapsCompatible",
        "TILEMATRIX": str(Z), "TILEROW": str(Y), "TILECOL": str(X),
    }  # fmt: skip
    asked = {name: value for name, value in {**good, **wrong}.items() if value is not None}
    got = await server.http.get(f"/api/v1/items/{scene['id']}/wmts", params=asked, headers=auth(server.home))
    assert (got.status_code, got.headers["content-type"].split(";")[0]) == (status, "application/xml")
    [report] = ET.fromstring(got.content)
    assert (report.attrib["exceptionCode"], report.attrib.get("locator")) == (code, locator)


@pytest.mark.asyncio
async def test_a_wmts_address_alone_is_answered_with_capabilities(server, scene):
    made = await server.home.op("items.tile_keys.create", {"name": "Pasted", "item_id": scene["id"]})
    base = f"/api/v1/items/{scene['id']}/wmts"
    pasted = await server.http.get(f"{base}/k/{made['key']}")
    asked = await server.http.get(f"{base}/k/{made['key']}", params={"service": "WMTS", "request": "GetCapabilities"})
    assert (pasted.status_code, pasted.content) == (200, asked.content)
    in_query = await server.http.get(base, params={"ticket": made["key"]})
    assert ET.fromstring(in_query.content).tag == f"{WMTS}Capabilities"


@pytest.mark.asyncio
async def test_gdal_reads_the_scene_through_wmts(server, scene, shared_data):
    made = await server.home.op("items.tile_keys.create", {"name": "GDAL", "item_id": scene["id"]})
    address = f"{server.base_url}/api/v1/items/{scene['id']}/wmts/k/{made['key']}?SERVICE=WMTS&REQUEST=GetCapabilities"

    def read():
        with rasterio.Env(GDAL_HTTP_TIMEOUT="20"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with (
                rasterio.open(f"WMTS:{address},layer=true_color") as found,
                rasterio.open(shared_data / "imagery" / BANDS) as file,
            ):
                bounds = transform_bounds(file.crs, found.crs, *file.bounds)
                window = from_bounds(*bounds, found.transform)
                return found.crs.to_epsg(), found.count, found.read(window=window, out_shape=(found.count, 200, 200))

    epsg, count, read_pixels = await asyncio.to_thread(read)
    assert (epsg, count) == (3857, 4)
    assert (read_pixels[3] == 255).mean() > 0.8
    assert read_pixels[0][read_pixels[3] == 255].std() > 10


@pytest.mark.asyncio
async def test_gdal_reads_the_scene_as_plain_tiles(server, scene):
    made = await server.home.op("items.tile_keys.create", {"name": "XYZ", "item_id": scene["id"]})
    address = f"{server.base_url}/api/v1/items/{scene['id']}/tiles/k/{made['key']}/${{z}}/${{x}}/${{y}}.png"
    service = (
        f"<GDAL_WMS><Service name='TMS'><ServerUrl>{address}</ServerUrl></Service><DataWindow><UpperLeftX>-20037508.34"
        "</UpperLeftX><UpperLeftY>20037508.34</UpperLeftY><LowerRightX>20037508.34</LowerRightX><LowerRightY>-20037508.34"
        "</LowerRightY><TileLevel>12</TileLevel><TileCountX>1</TileCountX><TileCountY>1</TileCountY><YOrigin>top</YOrigin>"
        "</DataWindow><Projection>EPSG:3857</Projection><BlockSizeX>256</BlockSizeX><BlockSizeY>256</BlockSizeY>"
        "<BandsCount>4</BandsCount></GDAL_WMS>"
    )

    def read():
        with rasterio.open(service) as found:
            return found.read(window=((Y * 256, Y * 256 + 256), (X * 256, X * 256 + 256)))

    by_gdal = await asyncio.to_thread(read)
    plain = await server.http.get(f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}.png", headers=auth(server.home))
    assert np.array_equal(np.moveaxis(by_gdal, 0, -1), pixels(plain.content))


async def test_tiles_for_fine_screens_have_twice_the_pixels(server, scene):
    base = f"/api/v1/items/{scene['id']}/tiles/{Z}/{X}/{Y}"
    plain = await server.http.get(f"{base}.png", headers=auth(server.home))
    fine = await server.http.get(f"{base}@2x.png", headers=auth(server.home))
    asked = await server.http.get(f"{base}.png?size=512", headers=auth(server.home))
    assert [pixels(each.content).shape[:2] for each in (plain, fine)] == [(256, 256), (512, 512)]
    assert fine.content == asked.content
    assert plain.headers["etag"] != fine.headers["etag"]
    assert problem_of(await server.http.get(f"{base}.png?size=300", headers=auth(server.home)))["status"] == 422


async def test_a_page_elsewhere_reads_parts_of_files_and_tiles(server, scene):
    [asset] = (await server.home.op("items.list_assets", {"item_id": scene["id"]}))["assets"]
    link = await server.home.op("items.asset.download", {"item_id": scene["id"], "asset_id": asset["id"]})
    page = {"Origin": "https://maps.example"}
    asked = {**page, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range,if-none-match"}
    assert (await server.http.options(link["url"], headers=asked)).status_code == 200
    part = await server.http.get(link["url"], headers={**page, "Range": "bytes=0-1023"})
    assert (part.status_code, part.headers["access-control-allow-origin"]) == (206, "*")
    shown = part.headers["access-control-expose-headers"]
    assert {"Content-Range", "Accept-Ranges", "ETag"} <= set(shown.split(", "))
