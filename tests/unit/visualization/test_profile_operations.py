"""Profiles that people keep, change and remove."""

from __future__ import annotations

import contextlib

import pytest
import pytest_asyncio

from geopera_server.kernel.principal import Principal, service
from support.deliveries import asset, deliver, item
from support.house import Caller, inhabited

MULTISPECTRAL = {"band_names": ["B04", "B03", "B02", "B08"], "band_count": 4, "dtype": "uint16"}
CONFIG = {"band": "B08", "colormap": "viridis", "rescale": [0, 5_000]}


@pytest_asyncio.fixture
async def home(database, place, tmp_path):
    async with contextlib.AsyncExitStack() as stack:
        found = await stack.enter_async_context(inhabited(database, place, tmp_path))
        made = await found.owner.run(deliver, {"item": item(found.project_id), "assets": [asset(**MULTISPECTRAL)]})
        found.item_id = made["id"]
        yield found


async def created(home, name="Heat", **more):
    given = {"item_id": home.item_id, "name": name, "type": "singleband", "config": CONFIG, **more}
    return await home.owner.op("visualization.profile.create", given)


def of(home, profile):
    return {"item_id": home.item_id, "profile_id": profile["id"]}


async def default_of(home):
    return (await home.owner.op("visualization.profiles.list", {"item_id": home.item_id}))["default_id"]


@pytest.mark.asyncio
async def test_a_profile_is_kept_as_it_was_given(home):
    made = await created(home, sort_order=3)
    assert (made["layer"], made["version"], made["is_default"], made["asset_key"]) == ("user", 1, False, None)
    assert made["created_by"] == home.place.home.user_id
    assert await home.owner.op("visualization.profile.get", of(home, made)) == made


@pytest.mark.asyncio
async def test_there_is_one_default_at_most(home):
    first = await created(home, "First", is_default=True)
    second = await created(home, "Second", is_default=True)
    assert await default_of(home) == second["id"]
    again = await home.owner.op("visualization.profile.set_default", of(home, first))
    assert (again["is_default"], await default_of(home)) == (True, first["id"])
    assert (await home.owner.op("visualization.profile.set_default", of(home, first)))["is_default"]
    await home.owner.op("visualization.profile.update", {**of(home, second), "is_default": True})
    assert await default_of(home) == second["id"]
    await home.owner.op("visualization.profile.update", {**of(home, second), "is_default": False})
    assert await default_of(home) is None


@pytest.mark.asyncio
async def test_removing_the_default_promotes_sensor_before_auto_before_user(home):
    platform = Caller(home.house, service(organization_id=home.place.home.organization_id))
    user = await created(home, "Mine", sort_order=-5)
    made = {}
    for layer in ("auto", "sensor"):
        given = {"item_id": home.item_id, "name": layer, "type": "singleband", "config": CONFIG, "layer": layer}
        made[layer] = await platform.op("visualization.profile.create", given)
    chosen = await created(home, "Chosen", is_default=True)
    for expected in (made["sensor"], made["auto"], user):
        gone = {"item_id": home.item_id, "profile_id": await default_of(home)}
        assert (await home.owner.op("visualization.profile.delete", gone)) == {"id": gone["profile_id"], "ok": True}
        assert await default_of(home) == expected["id"]
    assert await home.owner.refused("visualization.profile.get", of(home, chosen)) == (404, "not_found")


@pytest.mark.asyncio
async def test_only_a_new_picture_raises_the_version(home):
    made = await created(home)
    renamed = await home.owner.op("visualization.profile.update", {**of(home, made), "name": "Glow", "sort_order": 9})
    assert (renamed["name"], renamed["sort_order"], renamed["version"], renamed["config"]) == ("Glow", 9, 1, CONFIG)
    changed = await home.owner.op(
        "visualization.profile.update", {**of(home, made), "type": "expression", "config": {"expression": "nir / red"}}
    )
    assert (changed["type"], changed["version"]) == ("expression", 2)
    same = await home.owner.op("visualization.profile.update", {**of(home, made), "config": {"expression": "nir / red"}})
    assert same["version"] == 2
    keyed = await home.owner.op("visualization.profile.update", {**of(home, made), "asset_key": "data"})
    freed = await home.owner.op("visualization.profile.update", {**of(home, made), "asset_key": None})
    assert (keyed["asset_key"], freed["asset_key"], freed["version"]) == ("data", None, 4)


@pytest.mark.asyncio
async def test_names_are_taken_once_whatever_their_case(home):
    made = await created(home, "Heat")
    given = {"item_id": home.item_id, "name": "HEAT", "type": "singleband", "config": CONFIG}
    assert await home.owner.refused("visualization.profile.create", {**given, "is_default": True}) == (409, "conflict")
    assert await default_of(home) is None
    other = await created(home, "Other")
    assert await home.owner.refused("visualization.profile.update", {**of(home, other), "name": "heat"}) == (409, "conflict")
    assert (await home.owner.op("visualization.profile.update", {**of(home, made), "name": "heat"}))["name"] == "heat"


@pytest.mark.asyncio
async def test_what_does_not_fit_the_file_is_refused(home):
    given = {"item_id": home.item_id, "name": "Bad", "type": "singleband", "config": CONFIG}
    for wrong, expected in (
        ({"config": {"band": 5}}, (422, "invalid_input")),
        ({"type": "rgb"}, (422, "invalid_input")),
        ({"asset_key": "none"}, (404, "not_found")),
        ({"layer": "sensor"}, (422, "invalid_input")),
        ({"name": " "}, (422, "invalid_input")),
        ({"sort_order": 2**40}, (422, "invalid_input")),
    ):
        assert await home.owner.refused("visualization.profile.create", {**given, **wrong}) == expected, wrong
    made = await created(home)
    assert await home.owner.refused("visualization.profile.update", {**of(home, made), "type": "rgb"}) == (422, "invalid_input")


@pytest.mark.asyncio
async def test_a_profile_belongs_to_its_item_alone(home):
    made = await created(home)
    other = await home.owner.run(deliver, {"item": item(home.project_id, "OTHER"), "assets": [asset(**MULTISPECTRAL)]})
    elsewhere = {"item_id": other["id"], "profile_id": made["id"]}
    for verb in ("get", "update", "set_default", "delete"):
        assert await home.owner.refused(f"visualization.profile.{verb}", elsewhere) == (404, "not_found")


@pytest.mark.asyncio
async def test_whoever_may_only_read_changes_nothing(home):
    made = await created(home)
    viewer = Caller(
        home.house,
        Principal(
            kind="user",
            id="0198f1c2-0000-7000-8000-00000000aaaa",
            organization_id=home.place.home.organization_id,
            organization_role="viewer",
            scopes=frozenset({"items:read", "items:write"}),
        ),
    )
    assert (await viewer.op("visualization.profile.get", of(home, made)))["id"] == made["id"]
    for verb in ("update", "set_default", "delete"):
        assert await viewer.refused(f"visualization.profile.{verb}", of(home, made)) == (403, "role_required")


@pytest.mark.asyncio
async def test_the_rules_are_served_as_they_are(home):
    found = await home.owner.op("visualization.list_for", {"band_roles": {"red": 1, "green": 2, "blue": 3}, "asset": "visual"})
    assert found["default_id"] == "true_color"
    assert {each["asset"] for each in found["visualizations"]} == {"visual"}
    assert await home.owner.op("visualization.list_for") == {"visualizations": [], "default_id": ""}


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "change", [{"name": "My colours"}, {"type": "singleband", "config": {**CONFIG, "band": 4}}, {"asset_key": None}]
)
async def test_what_somebody_changed_is_theirs_and_stays(home, change):
    [file] = (await home.owner.op("items.list_assets", {"item_id": home.item_id}))["assets"]
    naming = {"item_id": home.item_id, "asset_id": file["id"], "band_names": ["red", "green", "blue", "nir"]}
    await home.owner.op("items.set_asset_band_names", naming)
    found = (await home.owner.op("visualization.profiles.list", {"item_id": home.item_id}))["profiles"]
    assert all(each["layer"] != "user" for each in found)
    mine = await home.owner.op("visualization.profile.update", {**of(home, found[0]), **change})
    assert mine["layer"] == "user"
    only_moved = await home.owner.op("visualization.profile.update", {**of(home, found[1]), "sort_order": 7})
    assert only_moved["layer"] == found[1]["layer"]
    await home.owner.op("items.set_asset_band_names", {**naming, "band_names": ["red", "green", "blue", "swir16"]})
    assert await home.owner.op("visualization.profile.get", of(home, mine)) == mine
