"""Tiles of items whose files are real rasters, through the pipeline."""

from __future__ import annotations

import asyncio
import contextlib

import numpy as np
import pytest
import pytest_asyncio

from geopera_server.kernel.context import Asked
from geopera_server.kernel.pipeline import Call
from support.deliveries import asset, deliver, item
from support.house import inhabited, owner_of
from support.pictures import BANDS, BOLZANO, BOLZANO_AREA, BOLZANO_TILE, HEIGHTS, SCENE, pictured_item, pixels, seen, tile_of

TILE = BOLZANO_TILE
NOWHERE = {"z": 12, "x": 1, "y": 1}


@pytest_asyncio.fixture
async def home(database, place, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(inhabited(database, place, tmp_path))


@pytest_asyncio.fixture
async def scene(home, shared_data):
    return await pictured_item(
        home.house, home.place.home, ("data", shared_data / "imagery" / BANDS), more=BOLZANO, stac_id="BOLZANO"
    )


async def reply(home, operation_id, given, *, who=None, **asked):
    call = Call(
        operation=home.house.registry.get(operation_id),
        given=given,
        principal=who or owner_of(home.place.home),
        asked=Asked(**asked),
    )
    return await home.house.kernel.run(call)


async def tile(home, scene, operation_id="items.tile.render", **given):
    answered = await reply(home, operation_id, {"item_id": scene["id"], **TILE, **given})
    return pixels(answered.body)


@pytest.mark.asyncio
async def test_the_default_is_what_the_bands_offer_first(home, scene):
    answered = await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
    assert answered.media_type == "image/webp"
    assert pixels(answered.body).shape == (256, 256, 4)
    assert seen(answered.body) > 0.4
    assert np.array_equal(pixels(answered.body), await tile(home, scene, bands="1,2,3"))


@pytest.mark.asyncio
async def test_bands_are_called_by_number_name_or_role(home, scene):
    by_number = await tile(home, scene, bands="4,1,2")
    assert np.array_equal(by_number, await tile(home, scene, bands="B08,B04,B03"))
    assert np.array_equal(by_number, await tile(home, scene, bands="nir,red,green"))
    assert np.array_equal(by_number, await tile(home, scene, profile="false_color"))
    assert not np.array_equal(by_number, await tile(home, scene, bands="1,2,3"))


@pytest.mark.asyncio
async def test_an_index_is_asked_for_by_its_id_or_its_formula(home, scene):
    wanted = {"rescale": "-1,1", "colormap": "RdYlGn"}
    by_id = await tile(home, scene, profile="ndvi")
    assert np.array_equal(by_id, await tile(home, scene, expression="(b4 - b1) / (b4 + b1)", **wanted))
    assert np.array_equal(by_id, await tile(home, scene, expression="(nir-red)/(nir+red)", **wanted))
    assert not np.array_equal(by_id, await tile(home, scene, profile="ndvi", colormap="viridis"))


@pytest.mark.asyncio
async def test_a_profile_is_used_by_name_and_by_id_and_changes_at_once(home, scene):
    config = {"band": 4, "rescale": [0, 5_000], "colormap": "magma"}
    made = await home.owner.op(
        "visualization.profile.create",
        {"item_id": scene["id"], "name": "Glow", "type": "singleband", "config": config, "is_default": True},
    )
    before = await tile(home, scene)
    assert np.array_equal(before, await tile(home, scene, profile=made["id"]))
    assert np.array_equal(before, await tile(home, scene, profile="GLOW"))
    assert np.array_equal(before, await tile(home, scene, bands="4", rescale="0,5000", colormap="magma"))
    changed = {"item_id": scene["id"], "profile_id": made["id"], "config": {**config, "colormap": "viridis"}}
    assert (await home.owner.op("visualization.profile.update", changed))["version"] == 2
    assert not np.array_equal(before, await tile(home, scene))


@pytest.mark.asyncio
@pytest.mark.parametrize(("name", "media_type", "signature"), [
    ("webp", "image/webp", b"RIFF"), ("png", "image/png", b"\x89PNG"), ("jpg", "image/jpeg", b"\xff\xd8"),
    ("jpeg", "image/jpeg", b"\xff\xd8"), ("image/png", "image/png", b"\x89PNG"),
])  # fmt: skip
async def test_formats(home, scene, name, media_type, signature):
    answered = await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE, "format": name})
    assert answered.media_type == media_type
    assert answered.body.startswith(signature)


@pytest.mark.asyncio
async def test_a_tile_without_data_is_transparent(home, scene):
    answered = await reply(home, "items.tile.render", {"item_id": scene["id"], **NOWHERE, "format": "png"})
    assert answered.status == 200
    assert seen(answered.body) == 0


@pytest.mark.asyncio
@pytest.mark.parametrize(("wrong", "where"), [
    ({"bands": "6"}, "bands"), ({"bands": "1,2"}, "bands"), ({"bands": "purple"}, "bands"), ({"bands": ""}, "bands"),
    ({"expression": "(b1 -"}, "expression"), ({"expression": "b9"}, "expression"), ({"expression": "__import__('os')"}, "expression"),
    ({"expression": "b1", "bands": "1"}, "expression"), ({"rescale": "5,1"}, "rescale"), ({"rescale": "a,b"}, "rescale"),
    ({"rescale": "0,1;0,2"}, "rescale"), ({"colormap": "viridis"}, "colormap"), ({"bands": "1", "colormap": "nope"}, "colormap"),
    ({"format": "gif"}, "format"), ({"quality": 0}, "quality"), ({"z": 25}, "z"), ({"x": 4096}, "x"), ({"y": -1}, "y"),
])  # fmt: skip
async def test_what_does_not_fit_is_told_with_its_place(home, scene, wrong, where):
    with pytest.raises(Exception) as refused:
        await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE, **wrong})
    assert refused.value.status == 422
    assert refused.value.issues[0]["loc"] == ["body", where]


@pytest.mark.asyncio
async def test_a_formula_is_refused_with_the_place_of_its_fault(home, scene):
    with pytest.raises(Exception) as refused:
        await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE, "expression": "b1 + * b2"})
    assert refused.value.members["position"] == 5
    assert "character 6" in refused.value.detail


@pytest.mark.asyncio
async def test_an_etag_spares_the_drawing_and_the_counting(home, scene):
    given = {"item_id": scene["id"], **TILE}
    first = await reply(home, "items.tile.render", given)
    assert first.headers["Cache-Control"] == "private, max-age=3600"
    again = await reply(home, "items.tile.render", given, if_none_match=f'"other", W/{first.headers["ETag"]}')
    assert (again.status, again.body, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert home.house.meter.waiting() == {"tile_requests": 1}
    other = await reply(home, "items.tile.render", {**given, "bands": "4"})
    assert other.headers["ETag"] != first.headers["ETag"]


@pytest.mark.asyncio
async def test_another_file_gives_other_pixels_at_once(home, scene, shared_data):
    before = await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
    await home.sql("UPDATE asset SET checksum = 'sha256:changed'")
    after = await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
    assert after.headers["ETag"] != before.headers["ETag"]
    heights = "projects/other/heights.tif"
    await home.house.store.put_file(heights, shared_data / "imagery" / HEIGHTS)
    await home.sql("UPDATE asset SET href = %s, band_count = 1, band_names = '{}', checksum = 'sha256:third'", heights)
    there = tile_of(6.5, 0.5, 10)
    answered = await reply(home, "items.tile.render", {"item_id": scene["id"], **there})
    assert seen(answered.body) > 0.9
    assert seen((await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})).body) == 0


@pytest.mark.asyncio
async def test_tiles_count_for_the_owner_and_its_project(home, scene):
    for _ in range(3):
        await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
    await home.operator.op("items.tile.statistics", {"item_id": scene["id"], "expression": "b1"})
    await home.house.meter.flush()
    [row] = await home.sql("SELECT organization_id, project_id, amount FROM usage_day WHERE kind = 'tile_requests'")
    assert row == {"organization_id": home.place.home.organization_id, "project_id": home.project_id, "amount": 3}


@pytest.mark.asyncio
async def test_the_plans_hard_cap_ends_tiles_unless_more_are_sold(home, scene):
    await home.sql("UPDATE plan SET included = included || '{\"tile_requests\": 2}'")
    await home.sql("UPDATE organization SET plan_id = 'free'")
    for _ in range(2):
        await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
        await home.house.meter.flush()
    with pytest.raises(Exception) as refused:
        await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert refused.value.retry_after_s > 0
    await home.sql("UPDATE organization SET plan_id = 'starter'")
    assert (await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE})).status == 200


@pytest.mark.asyncio
async def test_what_is_remembered_of_one_organization_is_never_shown_to_another(home, scene, shared_data):
    given = {"item_id": scene["id"], **TILE}
    first = await reply(home, "items.tile.render", given)
    assert await home.stranger.refused("items.tile.render", given) == (404, "not_found")
    file = shared_data / "imagery" / BANDS
    theirs = await pictured_item(home.house, home.place.stranger, ("data", file), more=BOLZANO, stac_id="BOLZANO")
    stranger = owner_of(home.place.stranger)
    own = await reply(home, "items.tile.render", {"item_id": theirs["id"], **TILE}, who=stranger)
    assert own.body == first.body
    assert own.headers["ETag"] != first.headers["ETag"]
    kept = await reply(
        home, "items.tile.render", {"item_id": theirs["id"], **TILE}, who=stranger, if_none_match=first.headers["ETag"]
    )
    assert kept.status == 200


@pytest.mark.asyncio
async def test_a_default_whose_file_was_deleted_is_passed_over(home, shared_data):
    folder = shared_data / "imagery" / SCENE
    both = [(name, folder / f"{name}.tif") for name in ("B04", "TCI")]
    scene = await pictured_item(home.house, home.place.home, *both)
    made = {"item_id": scene["id"], "name": "Colour", "type": "multiband", "config": {"bands": [1, 2, 3]}, "asset_key": "TCI"}
    profile = await home.owner.op("visualization.profile.create", {**made, "is_default": True})
    there = {"item_id": scene["id"], **tile_of(-11.4, 24.8, 9)}
    before = await reply(home, "items.tile.render", there)
    await home.sql("UPDATE asset SET deleted_at = now() WHERE key = 'TCI'")
    after = await reply(home, "items.tile.render", there)
    assert not np.array_equal(pixels(before.body), pixels(after.body))
    assert await home.owner.refused("items.tile.render", {**there, "profile": profile["id"]}) == (404, "not_found")


@pytest.mark.asyncio
async def test_the_names_of_wmts_requests_are_understood(home, scene):
    asked = {
        "SERVICE": "WMTS",
        "REQUEST": "GetTile",
        "Layer": "ndvi",
        "TILEMATRIX": "12",
        "TileRow": TILE["y"],
        "TILECOL": TILE["x"],
    }
    by_names = await reply(home, "items.tile.wmts_get_tile", {"item_id": scene["id"], **asked})
    assert by_names.body == (await reply(home, "items.tile.render", {"item_id": scene["id"], **TILE, "profile": "ndvi"})).body


@pytest.mark.asyncio
async def test_an_expired_item_shows_nothing(home, scene):
    await home.sql("UPDATE item SET lifecycle_state = 'expired'")
    given = {"item_id": scene["id"], **TILE}
    assert await home.owner.refused("items.tile.render", given) == (410, "retention_expired")
    assert await home.owner.refused("items.tile.tilejson", given) == (410, "retention_expired")
    assert await home.owner.refused("items.tile.statistics", {**given, "expression": "b1"}) == (410, "retention_expired")
    assert await home.owner.refused("items.tile.wmts_capabilities", {**given, "base_url": "http://a.test"}) == (
        410,
        "retention_expired",
    )
    assert await home.owner.refused("cog.tile.render", {"url": scene["hrefs"]["data"], **TILE, "format": "png"}) == (
        410,
        "retention_expired",
    )


@pytest.mark.asyncio
async def test_a_vector_has_no_tiles_and_an_unknown_asset_is_not_found(home):
    outline = asset("outline", media_type="application/geo+json")
    made = await home.owner.run(deliver, {"item": item(home.project_id, "LINES"), "assets": [outline]})
    assert await home.owner.refused("items.tile.render", {"item_id": made["id"], **TILE}) == (422, "invalid_input")
    named = {"item_id": made["id"], **TILE, "asset_key": "outline"}
    assert await home.owner.refused("items.tile.render", named) == (422, "invalid_input")
    assert await home.owner.refused("items.tile.render", {**named, "asset_key": "other"}) == (404, "not_found")
    assert await home.owner.refused("items.tile.render", {**named, "asset_key": None, "profile": "x"}) == (422, "invalid_input")


@pytest.mark.asyncio
async def test_an_unknown_profile_is_not_found(home, scene):
    assert await home.owner.refused("items.tile.render", {"item_id": scene["id"], **TILE, "profile": "x"}) == (404, "not_found")
    assert await home.owner.refused("items.tile.tilejson", {"item_id": scene["id"], "profile": "x"}) == (404, "not_found")


@pytest.mark.asyncio
async def test_a_file_that_is_gone_is_not_found(home, scene):
    await home.house.store.delete(scene["hrefs"]["data"])
    assert await home.owner.refused("items.tile.render", {"item_id": scene["id"], **TILE}) == (404, "not_found")


@pytest.mark.asyncio
async def test_one_of_several_files_is_named_by_its_key(home, shared_data):
    folder = shared_data / "imagery" / SCENE
    scene = await pictured_item(
        home.house, home.place.home, *((name, folder / f"{name}.tif") for name in ("B04", "B08", "TCI"))
    )
    there = tile_of(-11.4, 24.8, 9)
    first = await reply(home, "items.tile.render", {"item_id": scene["id"], **there})
    red = await reply(home, "items.tile.render", {"item_id": scene["id"], **there, "asset_key": "B04"})
    colour = await reply(home, "items.tile.render", {"item_id": scene["id"], **there, "asset_key": "TCI"})
    assert first.body == red.body
    grey, coloured = pixels(red.body), pixels(colour.body)
    assert np.array_equal(grey[..., 0], grey[..., 2])
    assert not np.array_equal(coloured[..., 0], coloured[..., 2])


@pytest.mark.asyncio
async def test_statistics_of_a_formula_are_what_to_stretch_over(home, scene):
    found = await home.owner.op("items.tile.statistics", {"item_id": scene["id"], "expression": "(nir - red) / (nir + red)"})
    stats = found["statistics"]
    assert found["asset_key"] == "data"
    assert -1 <= stats["min"] <= stats["p2"] < stats["mean"] < stats["p98"] <= stats["max"] <= 1
    low, high = (float(part) for part in found["rescale"].split(","))
    assert (low, high) == pytest.approx((stats["p2"], stats["p98"]))


@pytest.mark.asyncio
async def test_tilejson_says_where_the_scene_is(home, scene):
    found = await home.owner.op("items.tile.tilejson", {"item_id": scene["id"]})
    west, south, east, north = found["bounds"]
    assert west < 11.36 < east
    assert south < 46.48 < north
    assert found["minzoom"] <= 12 <= found["maxzoom"] <= 15
    assert found["geopera:visualization"]["id"] == "true_color"
    assert found["tiles"][0].startswith(f"http://house.test/api/v1/items/{scene['id']}/tiles/k/")
    assert found["tiles"][0].endswith("/{z}/{x}/{y}.webp")
    ndvi = await home.owner.op("items.tile.tilejson", {"item_id": scene["id"], "profile": "ndvi"})
    assert ndvi["tiles"][0].endswith("?profile=ndvi")
    assert ndvi["geopera:visualization"] == {"id": "ndvi", "label": "NDVI", "rescale": "-1,1"}


@pytest.mark.asyncio
async def test_many_who_want_one_tile_have_it_drawn_once(home, scene, monkeypatch):
    from geopera_server.raster import render

    drawn = []
    real = render.tile
    monkeypatch.setattr(render, "tile", lambda *given, **more: drawn.append(given) or real(*given, **more))
    given = {"item_id": scene["id"], **TILE}
    answers = await asyncio.gather(*(reply(home, "items.tile.render", given) for _ in range(8)))
    assert len({answer.body for answer in answers}) == 1
    assert len(drawn) == 1
    assert home.house.meter.waiting()["tile_requests"] == 8


@pytest.mark.asyncio
async def test_strangers_and_unknown_ids_are_answered_alike(home, scene):
    stranger, area = home.stranger, {"geometry": BOLZANO_AREA}
    unknown = "0198f1c2-0000-7000-8000-000000000000"
    for item_id in (scene["id"], unknown, "no id at all"):
        given = {"item_id": item_id, **TILE, "expression": "b1", "base_url": "http://a.test"}
        for operation_id in ("items.tile.render", "items.tile.tilejson", "items.tile.statistics", "items.tile.wmts_capabilities",
                             "items.tile.wmts_get_tile", "visualization.profiles.list"):  # fmt: skip
            assert await stranger.refused(operation_id, given) == (404, "not_found"), operation_id
        profile = {"item_id": item_id, "profile_id": unknown, "name": "x", "type": "singleband", "config": {"band": 1}}
        for verb in ("create", "get", "update", "delete", "set_default"):
            assert await stranger.refused(f"visualization.profile.{verb}", profile) == (404, "not_found"), verb
    for url in (
        scene["hrefs"]["data"],
        "projects/none/data.tif",
        f"http://house.test/files/{scene['hrefs']['data']}?expires=1",
    ):
        given = {"url": url, **TILE, "format": "png", **area}
        for operation_id in ("cog.tile.render", "cog.tile.terrain", "cog.thumbnail", "cog.statistics"):
            assert await stranger.refused(operation_id, given) == (404, "not_found"), operation_id
