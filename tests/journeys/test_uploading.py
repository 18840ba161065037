"""From a file on a disk to an item on a map: real imagery sent by plain HTTP, and what becomes of it."""

from __future__ import annotations

import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from support.serving import problem_of
from support.uploads import address_of, begun, objects_below, put, reserved, sent, until_processed


@pytest.fixture
def scene(shared_data):
    return shared_data / "imagery" / "S2_L2A_bolzano_20220612_B04-B03-B02-B08-SCL.tif"


async def test_a_geotiff_becomes_an_item_with_a_cog(server, place, scene, tmp_path):
    home, data = server.home, scene.read_bytes()
    upload_id = await begun(home, place.home.project_id, total_bytes=len(data))
    assert await reserved(server.sql, place.home.organization_id) == (len(data), len(data))
    url = await address_of(home, upload_id, scene.name)
    stored = (await put(server.http, url, data)).json()
    given = {
        "uploadId": upload_id,
        "name": "Bolzano",
        "datetime": "2022-06-12T10:10:31Z",
        "files": [{"objectPath": stored["object_path"], "checksumCrc32c": stored["checksum_crc32c"]}],
        "userMetadata": {"platform": "sentinel-2a"},
    }
    told = await home.op("uploads.complete", given)
    assert (told["id"], told["status"], told["upload"]["reserved_bytes"]) == (upload_id, "completed", 0)
    assert told["item"]["type"] == "user_raster"
    assert told["item"]["datetime"] == "2022-06-12T10:10:31.000Z"
    [asset] = told["assets"]
    assert (asset["key"], asset["file_size_bytes"], asset["is_cog"], asset["epsg"]) == ("data", len(data), False, 32632)
    upload = await until_processed(server, upload_id)
    assert (upload["detected_metadata"]["processing"], upload["error_message"]) == ("done", None)

    item = (await home.op("items.get", {"item_id": told["item_id"]}))["item"]
    [cog] = item["assets"]
    assert (cog["id"], cog["is_cog"], cog["band_names"]) == (asset["id"], True, ["B04", "B03", "B02", "B08", "SCL"])
    assert len(cog["statistics"]) == 5
    assert item["properties"]["platform"] == "sentinel-2a"
    assert item["collection_name"] == "Bolzano"
    assert item["default_profile_id"] is not None
    assert objects_below(tmp_path) == {cog["href"]}
    file = tmp_path / "objects" / cog["href"]
    assert file.stat().st_size == cog["file_size_bytes"] == item["storage_bytes"]
    assert cog_validate(file)[0]
    with rasterio.open(file) as made, rasterio.open(scene) as original:
        assert (made.read() == original.read()).all()
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)
    [total] = await server.sql("SELECT bytes FROM storage_total WHERE organization_id = %s", place.home.organization_id)
    assert total["bytes"] == cog["file_size_bytes"]

    lineage = await home.op("provenance.get", {"entity_type": "asset", "entity_id": asset["id"]})
    assert [(node["entity_type"], node["entity_id"]) for node in lineage["nodes"]] == [
        ("item", item["id"]),
        ("upload", upload_id),
    ]
    events = await server.sql("SELECT type FROM outbox_event ORDER BY position")
    assert [row["type"] for row in events][:2] == ["item.created", "upload.completed"]
    link = await home.op("items.asset.download", {"item_id": item["id"], "asset_id": asset["id"]})
    assert (await server.http.get(link["url"])).content == file.read_bytes()


async def test_a_ready_cog_stays_as_it_came(server, place, shared_data, tmp_path):
    upload_id = await begun(server.home, place.home.project_id)
    file = shared_data / "imagery" / "sentinel-2-l2a_S2A_29RKH_20200219" / "TCI.tif"
    await sent(server, upload_id, {"TCI.tif": file})
    first = await server.home.op("uploads.complete", {"upload_id": upload_id})
    await until_processed(server, upload_id)
    [asset] = (await server.home.op("items.get", {"item_id": first["item_id"]}))["item"]["assets"]
    assert asset["is_cog"] is True
    assert objects_below(tmp_path) == {asset["href"]}
    assert len(asset["statistics"]) == 3


async def test_a_picture_with_a_world_file_needs_its_reference_system(server, place, scene, tmp_path):
    with rasterio.open(scene) as source:
        pixels, transform = source.read(1, out_dtype="uint8"), source.transform
    picture = tmp_path / "overview.png"
    with rasterio.open(
        picture, "w", driver="PNG", width=pixels.shape[1], height=pixels.shape[0], count=1, dtype="uint8"
    ) as png:
        png.write(pixels, 1)
    a, b, c, d, e, f = transform[:6]
    world = "\n".join(str(each) for each in (a, d, b, e, c + a / 2, f + e / 2))
    upload_id = await begun(server.home, place.home.project_id, file_count=2)
    await sent(server, upload_id, {"overview.png": picture, "overview.pgw": world.encode()})
    response = await server.home.post("uploads.complete", {"upload_id": upload_id})
    assert (response.status_code, problem_of(response)["reason"]) == (422, "no_georeference")
    upload = (await server.home.op("uploads.get", {"upload_id": upload_id}))["upload"]
    assert (upload["status"], upload["error_step"]) == ("reviewing", "detecting")
    assert upload["error_message"] == response.json()["detail"][0]["msg"]
    assert upload["reserved_bytes"] == picture.stat().st_size + len(world)

    told = await server.home.op("uploads.complete", {"upload_id": upload_id, "user_metadata": {"epsg": "EPSG:32632"}})
    upload = await until_processed(server, upload_id)
    assert (upload["detected_metadata"]["processing"], upload["error_message"]) == ("done", None)
    [asset] = (await server.home.op("items.get", {"item_id": told["item_id"]}))["item"]["assets"]
    assert (asset["is_cog"], asset["epsg"], asset["file_name"]) == (True, 32632, "overview.tif")
    with rasterio.open(tmp_path / "objects" / asset["href"]) as made:
        assert made.transform.almost_equals(transform)
    assert objects_below(tmp_path) == {asset["href"]}


async def test_several_rasters_become_assets_of_one_item(server, place, shared_data, tmp_path):
    folder = shared_data / "imagery" / "landsat-c2-l2_LC08_001062_20201031"
    files = {f"SR_B{number}.TIF": folder / f"LC08_L2SP_001062_20201031_20201106_02_T2_SR_B{number}.TIF" for number in (4, 3)}
    upload_id = await begun(server.home, place.home.project_id, file_count=2)
    await sent(server, upload_id, files)
    told = await server.home.op("uploads.complete", {"upload_id": upload_id, "name": "Landsat"})
    assert [asset["key"] for asset in told["assets"]] == ["SR_B4", "SR_B3"]
    await until_processed(server, upload_id)
    item = (await server.home.op("items.get", {"item_id": told["item_id"]}))["item"]
    assert [asset["is_cog"] for asset in item["assets"]] == [True, True]
    assert objects_below(tmp_path) == {asset["href"] for asset in item["assets"]}


async def test_a_vector_is_kept_as_it_came(server, place, tmp_path):
    data = (
        b'{"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"name": "plot"}, "geometry":'
        b' {"type": "Polygon", "coordinates": [[[11.2, 46.4], [11.3, 46.4], [11.3, 46.5], [11.2, 46.4]]]}}]}'
    )
    upload_id = await begun(server.home, place.home.project_id)
    await sent(server, upload_id, {"plots.geojson": data})
    assert await server.home.refused("uploads.complete", {"upload_id": upload_id, "type": "user_raster"}) == (
        422,
        "invalid_input",
    )
    told = await server.home.op("uploads.complete", {"upload_id": upload_id})
    assert (told["item"]["type"], told["item"]["name"]) == ("user_vector", "plots")
    assert told["item"]["bbox"] == [11.2, 46.4, 11.3, 46.5]
    assert told["upload"]["detected_metadata"]["files"][0]["feature_count"] == 1
    await until_processed(server, upload_id)
    [asset] = (await server.home.op("items.list_assets", {"item_id": told["item_id"]}))["assets"]
    assert asset["is_cog"] is None
    assert objects_below(tmp_path) == {asset["href"]}


async def test_a_file_may_join_an_item(server, place, scene, shared_data, tmp_path):
    first = await begun(server.home, place.home.project_id)
    await sent(server, first, {scene.name: scene})
    item_id = (await server.home.op("uploads.complete", {"upload_id": first, "name": "Scene"}))["item_id"]
    await until_processed(server, first)
    into = {"target_item_id": item_id, "asset_key": "classes", "is_categorical": True}
    second = await begun(server.home, place.home.project_id, **into)
    await sent(server, second, {"SCL.tif": shared_data / "imagery" / "sentinel-2-l2a_S2A_29RKH_20200219" / "SCL.tif"})
    told = await server.home.op("uploads.complete", {"upload_id": second})
    assert (told["item_id"], [asset["key"] for asset in told["assets"]]) == (item_id, ["classes"])
    await until_processed(server, second)
    item = (await server.home.op("items.get", {"item_id": item_id}))["item"]
    assert {asset["key"]: asset["is_cog"] for asset in item["assets"]} == {"data": True, "classes": True}
    assert objects_below(tmp_path) == {asset["href"] for asset in item["assets"]}
    assert await server.home.refused("uploads.initiate", {"project_id": place.home.project_id, **into}) == (409, "conflict")
    records = await server.sql(
        "SELECT kind FROM lineage_record WHERE entity_type = 'item' AND entity_id = %s AND operation_id = 'uploads.complete'"
        " ORDER BY id",
        item_id,
    )
    assert [record["kind"] for record in records] == ["edge", "event"]
