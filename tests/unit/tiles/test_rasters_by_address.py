"""Pictures and figures of rasters by their address: own files, listed hosts, and everything that is refused."""

from __future__ import annotations

import contextlib
import warnings

import numpy as np
import pytest
import pytest_asyncio
import rasterio
import rasterio.mask
import rasterio.warp

from geopera_server.kernel.context import Asked
from geopera_server.kernel.pipeline import Call
from support.house import inhabited, owner_of
from support.http_files import HttpFiles
from support.pictures import BANDS, BOLZANO, BOLZANO_AREA, BOLZANO_TILE, HEIGHTS, SCENE, pictured_item, pixels, seen, tile_of

HEIGHTS_TILE = tile_of(6.5, 0.5, 9)


@pytest_asyncio.fixture
async def home(database, place, tmp_path, shared_data):
    async with contextlib.AsyncExitStack() as stack:
        files = stack.enter_context(HttpFiles(shared_data / "imagery"))
        origin = files.url("").rstrip("/")
        found = await stack.enter_async_context(inhabited(database, place, tmp_path, raster_hosts=[origin]))
        found.files = files
        yield found


@pytest_asyncio.fixture
async def scene(home, shared_data):
    return await pictured_item(home.house, home.place.home, ("data", shared_data / "imagery" / BANDS), more=BOLZANO)


async def reply(home, operation_id, given, **asked):
    call = Call(
        operation=home.house.registry.get(operation_id),
        given=given,
        principal=owner_of(home.place.home),
        asked=Asked(**asked),
    )
    return await home.house.kernel.run(call)


async def tile(home, url, **given):
    return await reply(home, "cog.tile.render", {"url": url, **BOLZANO_TILE, "format": "png", **given})


@pytest.mark.asyncio
async def test_a_file_of_an_item_is_named_by_its_path_or_its_signed_address(home, scene):
    path = scene["hrefs"]["data"]
    by_path = await tile(home, path)
    by_address = await tile(home, f"http://house.test/files/{path}?expires=1&signature=none")
    assert seen(by_path.body) > 0.4
    assert by_path.body == by_address.body
    assert home.house.meter.waiting() == {"tile_requests": 2}


@pytest.mark.asyncio
async def test_a_raster_on_a_listed_host_is_read_and_counts_nothing(home, scene):
    elsewhere = await tile(home, home.files.url(BANDS))
    assert np.array_equal(pixels(elsewhere.body), pixels((await tile(home, scene["hrefs"]["data"])).body))
    assert home.house.meter.waiting() == {"tile_requests": 1}


@pytest.mark.asyncio
@pytest.mark.parametrize("url", [
    "https://example.com/scene.tif", "http://example.com/scene.tif", "http://127.0.0.1:1/scene.tif", "http://169.254.169.254/latest",
    "file:///etc/passwd", "/etc/passwd", "../../secret", "/vsicurl/http://127.0.0.1/x.tif", "s3://bucket/key.tif", "ftp://a.test/x.tif",
    "https://user:secret@example.com/x.tif", "", "data.tif", "https://[::1]/x.tif", "<VRTDataset/>", "x" * 3_000,
])  # fmt: skip
async def test_any_other_address_is_refused(home, url):
    for operation_id in ("cog.tile.render", "cog.tile.terrain", "cog.thumbnail", "cog.statistics"):
        given = {"url": url, **BOLZANO_TILE, "format": "png", "geometry": BOLZANO_AREA}
        assert await home.owner.refused(operation_id, given) == (422, "url_not_allowed")


@pytest.mark.asyncio
async def test_a_missing_raster_is_404_and_a_broken_host_502(home):
    given = {**BOLZANO_TILE, "format": "png"}
    assert await home.owner.refused("cog.tile.render", {"url": home.files.url("none.tif"), **given}) == (404, "not_found")
    home.files.status(BANDS, 500)
    assert await home.owner.refused("cog.tile.render", {"url": home.files.url(BANDS), **given}) == (502, "upstream_error")


@pytest.mark.asyncio
async def test_what_is_no_raster_is_told_so(home):
    text = f"{SCENE}/S2A_29RKH_20200219_0_L2A.json"
    given = {"url": home.files.url(text), **BOLZANO_TILE, "format": "png"}
    assert await home.owner.refused("cog.tile.render", given) == (422, "invalid_input")


@pytest.mark.asyncio
@pytest.mark.parametrize(("wrong", "where"), [
    ({"bands": "6"}, "bands"), ({"bands": "1,2,3", "colormap": "viridis"}, "colormap"), ({"colormap": "none", "bands": "1"}, "colormap"),
    ({"expression": "b9"}, "expression"), ({"expression": "b1", "bands": "1"}, "expression"), ({"rescale": "0,1;0,2", "bands": "1"}, "rescale"),
    ({"format": "tiff"}, "format"), ({"quality": 101}, "quality"), ({"x": 5_000}, "x"), ({"aoi": '{"type":"Point","coordinates":[0,0]}'}, "aoi"),
])  # fmt: skip
async def test_what_does_not_fit_is_told_with_its_place(home, scene, wrong, where):
    with pytest.raises(Exception) as refused:
        await tile(home, scene["hrefs"]["data"], **wrong)
    assert refused.value.status == 422
    assert refused.value.issues[0]["loc"] == ["body", where]


@pytest.mark.asyncio
async def test_an_area_clips(home, scene):
    whole = await tile(home, scene["hrefs"]["data"], bands="4")
    small = (
        '{"type":"Polygon","coordinates":[[[11.345,46.465],[11.365,46.465],[11.365,46.475],[11.345,46.475],[11.345,46.465]]]}'
    )
    clipped = await tile(home, scene["hrefs"]["data"], bands="4", aoi=small)
    assert 0 < seen(clipped.body) < seen(whole.body) / 4
    assert await home.owner.refused(
        "cog.tile.render", {"url": scene["hrefs"]["data"], **BOLZANO_TILE, "format": "png", "aoi": "{"}
    ) == (400, "malformed_geometry_json")


@pytest.mark.asyncio
async def test_terrain_holds_the_heights_of_the_file(home, shared_data):
    scene = await pictured_item(home.house, home.place.home, ("dem", shared_data / "imagery" / HEIGHTS))
    asked = {"url": scene["hrefs"]["dem"], **HEIGHTS_TILE}
    answered = await reply(home, "cog.tile.terrain", asked)
    assert answered.media_type == "image/webp"
    drawn = heights(answered.body)
    with rasterio.open(shared_data / "imagery" / HEIGHTS) as file:
        top = file.read(1).max()
    assert drawn.min() == 0
    assert drawn.max() == pytest.approx(top, rel=0.3)
    turned = heights((await reply(home, "cog.tile.terrain", {**asked, "invert": True})).body)
    assert turned.min() == pytest.approx(-drawn.max(), abs=0.2)
    with_many = await pictured_item(home.house, home.place.home, ("data", shared_data / "imagery" / BANDS), stac_id="MANY")
    given = {"url": with_many["hrefs"]["data"], **BOLZANO_TILE}
    assert await home.owner.refused("cog.tile.terrain", given) == (422, "invalid_input")


def heights(body):
    colours = pixels(body).astype(np.int64)
    return -10_000 + 0.1 * (colours[..., 0] * 65_536 + colours[..., 1] * 256 + colours[..., 2])


@pytest.mark.asyncio
async def test_a_thumbnail_keeps_its_proportions(home, scene):
    answered = await reply(home, "cog.thumbnail", {"url": scene["hrefs"]["data"], "width": 300, "height": 200})
    assert answered.media_type == "image/jpeg"
    height, width, _ = pixels(answered.body).shape
    assert (width, height) == (265, 200)
    again = await reply(
        home,
        "cog.thumbnail",
        {"url": scene["hrefs"]["data"], "width": 300, "height": 200},
        if_none_match=answered.headers["ETag"],
    )
    assert again.status == 304
    for wrong in ({"width": 15}, {"height": 2_049}):
        assert await home.owner.refused("cog.thumbnail", {"url": scene["hrefs"]["data"], **wrong}) == (422, "invalid_input")


@pytest.mark.asyncio
async def test_statistics_are_those_of_the_pixels_in_the_area(home, scene, shared_data):
    found = await home.owner.op(
        "cog.statistics", {"url": scene["hrefs"]["data"], "geometry": BOLZANO_AREA, "bands": "4", "percentiles": [10, 90]}
    )
    with rasterio.open(shared_data / "imagery" / BANDS) as file:
        area = rasterio.warp.transform_geom("EPSG:4326", file.crs, BOLZANO_AREA)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PendingDeprecationWarning)  # of rasterio's own arithmetic
            cut, _ = rasterio.mask.mask(file, [area], crop=True, all_touched=True, indexes=4)
    values = cut[cut != 0]
    [band] = found["bands"]
    assert (band["band"], band["name"], found["percentiles"], found["sampled"]) == (4, "B08", [10, 90], False)
    assert band["statistics"]["mean"] == pytest.approx(values.mean(), rel=0.001)
    assert band["statistics"]["valid_pixels"] == pytest.approx(values.size, rel=0.001)
    low, high = (float(part) for part in found["rescale"].split(","))
    assert (low, high) == pytest.approx(tuple(np.percentile(values, [10, 90])), rel=0.01)
    assert found["bbox"] == [11.34, 46.46, 11.38, 46.49]


@pytest.mark.asyncio
async def test_statistics_say_when_there_is_nothing_to_measure(home, scene):
    far = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    url = scene["hrefs"]["data"]
    assert await home.owner.refused("cog.statistics", {"url": url, "geometry": far}) == (422, "no_valid_pixels")
    descending = {"url": url, "geometry": BOLZANO_AREA, "percentiles": [98, 2]}
    assert await home.owner.refused("cog.statistics", descending) == (422, "invalid_input")
    crossed = {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}
    assert await home.owner.refused("cog.statistics", {"url": url, "geometry": crossed}) == (422, "invalid_geometry")
    ndvi = await home.owner.op("cog.statistics", {"url": url, "geometry": BOLZANO_AREA, "expression": "(b4 - b1) / (b4 + b1)"})
    assert (ndvi["expression"], ndvi["bands"][0]["band"]) == ("(b4 - b1) / (b4 + b1)", None)
    assert 0 < ndvi["bands"][0]["statistics"]["mean"] < 1


@pytest.mark.asyncio
async def test_the_catalogues_are_data_that_tiles_take(home, scene):
    colormaps = await home.owner.op("cog.colormaps")
    assert {"sequential", "diverging", "perceptual", "terrain", "categorical"} == set(colormaps)
    names = {each["name"] for group in colormaps.values() for each in group}
    assert {"viridis", "magma", "RdYlGn", "terrain", "bathymetry"} <= names
    formulas = await home.owner.op("cog.formulas")
    assert formulas["ndvi"]["formula"] == "(nir - red) / (nir + red)"
    assert formulas["ndvi"]["bands"] == ["nir", "red"]
    assert {each["colormap"].removesuffix("_r") for each in formulas.values()} <= names
    for name in sorted(names)[::7]:
        assert (await tile(home, scene["hrefs"]["data"], bands="4", colormap=name, z=8, x=136, y=90)).status == 200
