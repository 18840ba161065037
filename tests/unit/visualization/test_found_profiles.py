"""The profiles that items get by themselves, in a real database."""

from __future__ import annotations

import contextlib

import pytest
import pytest_asyncio
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.items import store as items
from geopera_server.domains.visualization.profiles import (
    auto_profiles,
    copy_profiles,
    default_profile_of,
    erase_profiles_of,
    revalidate_profiles,
)
from geopera_server.kernel.context import Context
from geopera_server.kernel.operation import operation
from support.deliveries import asset, deliver, item
from support.house import inhabited

MULTISPECTRAL = {"band_names": ["B04", "B03", "B02", "B08"], "band_count": 4, "dtype": "uint16"}


class Step(BaseModel):
    """What to do to which item."""

    item_id: str
    other_id: str | None = None
    step: str = "auto"


class Done(TypedDict):
    """What the item is shown by afterwards."""

    default: str | None


@operation("test.profiles", effect="compute", scope="items:write", raw=True)
async def change_profiles(ctx: Context, given: Step) -> Done:
    """Does one thing to an item's profiles."""
    row = await items.item_of(ctx.conn, ctx.organization_id, given.item_id)
    assets = (await items.assets_of(ctx.conn, ctx.organization_id, [given.item_id]))[given.item_id]
    if given.step == "auto":
        await auto_profiles(ctx, row, assets)
    elif given.step == "copy":
        await copy_profiles(ctx, given.other_id, row)
    elif given.step == "revalidate":
        await revalidate_profiles(ctx, row, assets[0])
    else:
        await erase_profiles_of(ctx, [given.item_id])
    default = await default_profile_of(ctx.conn, given.item_id)
    return Done(default=None if default is None else default["name"])


@pytest_asyncio.fixture
async def home(database, place, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        yield await stack.enter_async_context(inhabited(database, place, tmp_path))


async def delivered(home, *assets, stac_id="SCENE_1", **more):
    new = item(home.project_id, stac_id, **more)
    return (await home.owner.run(deliver, {"item": new, "assets": list(assets)}))["id"]


async def names_in(home, item_id):
    return [each["name"] for each in (await home.owner.op("visualization.profiles.list", {"item_id": item_id}))["profiles"]]


@pytest.mark.asyncio
async def test_bands_of_a_known_sensor_give_its_pictures(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    assert (await home.owner.run(change_profiles, {"item_id": item_id}))["default"] == "True colour"
    listed = await home.owner.op("visualization.profiles.list", {"item_id": item_id})
    first = listed["profiles"][0]
    assert (first["layer"], first["type"], first["config"]) == ("sensor", "rgb", {"band_mapping": {"r": 1, "g": 2, "b": 3}})
    assert listed["default_id"] == first["id"]
    assert {"False colour", "NDVI", "NDWI"} <= set(await names_in(home, item_id))
    assert (await home.owner.op("items.get", {"item_id": item_id}))["item"]["default_profile_id"] == first["id"]


@pytest.mark.asyncio
async def test_finding_again_changes_nothing(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    await home.owner.run(change_profiles, {"item_id": item_id})
    before = await home.sql("SELECT * FROM visualization_profile ORDER BY id")
    await home.owner.run(change_profiles, {"item_id": item_id})
    assert await home.sql("SELECT * FROM visualization_profile ORDER BY id") == before


@pytest.mark.asyncio
async def test_a_users_choice_of_default_outlives_finding_again(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    await home.owner.run(change_profiles, {"item_id": item_id})
    ndvi = next(
        p for p in (await home.owner.op("visualization.profiles.list", {"item_id": item_id}))["profiles"] if p["name"] == "NDVI"
    )
    await home.owner.op("visualization.profile.set_default", {"item_id": item_id, "profile_id": ndvi["id"]})
    assert (await home.owner.run(change_profiles, {"item_id": item_id}))["default"] == "NDVI"


@pytest.mark.asyncio
async def test_every_raster_of_an_item_has_profiles_under_its_key(home):
    item_id = await delivered(
        home,
        asset("red", band_names=["b1"], band_count=1, dtype="uint16"),
        asset("dem", band_names=["b1"], band_count=1, dtype="float32"),
        asset("preview", band_names=["b1"], band_count=1, dtype="uint8", roles=["thumbnail"]),
        asset("outline", media_type="application/geo+json"),
    )
    await home.owner.run(change_profiles, {"item_id": item_id})
    names = await names_in(home, item_id)
    assert "red: Band 1 (red)" in names
    assert names[0] == "dem: Elevation"
    assert not [name for name in names if name.startswith(("preview", "outline"))]


@pytest.mark.asyncio
async def test_a_copy_has_the_same_pictures_and_the_same_default(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    await home.owner.run(change_profiles, {"item_id": item_id})
    copy_id = await delivered(home, asset(**MULTISPECTRAL), stac_id="COPY")
    done = await home.owner.run(change_profiles, {"item_id": copy_id, "other_id": item_id, "step": "copy"})
    assert done["default"] == "True colour"
    assert await names_in(home, copy_id) == await names_in(home, item_id)


@pytest.mark.asyncio
async def test_other_band_names_give_other_pictures_and_keep_what_users_made(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    await home.owner.run(change_profiles, {"item_id": item_id})
    made = {"item_id": item_id, "name": "Mine", "type": "singleband", "config": {"band": "B08"}, "is_default": True}
    await home.owner.op("visualization.profile.create", made)
    await home.sql("UPDATE asset SET band_names = '{nir,red,green,blue}'")
    done = await home.owner.run(change_profiles, {"item_id": item_id, "step": "revalidate"})
    assert done["default"] == "True colour"
    profiles = (await home.owner.op("visualization.profiles.list", {"item_id": item_id}))["profiles"]
    by_name = {each["name"]: each for each in profiles}
    assert by_name["True colour"]["config"]["band_mapping"] == {"r": 2, "g": 3, "b": 4}
    assert by_name["True colour"]["version"] == 2
    assert by_name["Mine"]["config"] == {"band": "B08"}


@pytest.mark.asyncio
async def test_erased_items_leave_no_profiles(home):
    item_id = await delivered(home, asset(**MULTISPECTRAL))
    await home.owner.run(change_profiles, {"item_id": item_id})
    await home.owner.run(change_profiles, {"item_id": item_id, "step": "erase"})
    assert await names_in(home, item_id) == []
