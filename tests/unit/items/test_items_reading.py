"""Items as they are listed, shown as STAC, and traced."""

from __future__ import annotations

import json
import logging

import pystac
import pytest
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from geopera_server.domains.items.stac import RASTER
from geopera_server.domains.items.stac_extension import GEOPERA_EXTENSION_PATH, extension_schema
from geopera_server.values.ids import new_id
from support.deliveries import asset, asset_over, deliver, item
from support.house import BASE_URL
from support.orders import insert_order
from support.scenes import BOLZANO


@pytest.fixture(scope="session")
def validator(shared_data):
    """Validates STAC against the stored schemas; what is stored for no extension is checked by the tests themselves."""
    folder = shared_data / "stac-schemas"
    checks = JsonSchemaSTACValidator()
    for file in folder.rglob("*.json"):
        checks.schema_cache[f"https://{file.relative_to(folder)}"] = json.loads(file.read_text())
    checks.schema_cache[RASTER] = {"$schema": "http://json-schema.org/draft-07/schema#", "$id": RASTER}
    checks.schema_cache[BASE_URL + GEOPERA_EXTENSION_PATH] = extension_schema(BASE_URL)
    return checks


async def register(household, **given):
    return await household.owner.run(deliver, given)


async def ids_listed(caller, **given):
    return [one["id"] for one in (await caller.op("items.list", given))["items"]]


async def test_list_pages_newest_first_without_gaps(household):
    made = [(await register(household, item=item(household.project_id, f"S{n}")))["id"] for n in range(5)]
    found = []
    for offset in (0, 2, 4):
        page = await household.owner.op("items.list", {"project_id": household.project_id, "limit": 2, "offset": offset})
        assert (page["total"], page["limit"], page["offset"]) == (5, 2, offset)
        found += [one["id"] for one in page["items"]]
    assert found == made[::-1]
    clamped = await household.owner.op("items.list", {"project_id": household.project_id, "limit": 5_000})
    assert (clamped["limit"], len(clamped["items"])) == (1_000, 5)


async def test_list_by_collection(household):
    filed = await register(household, item=item(household.project_id), collection_for=await insert_order(household))
    loose = await register(household, item=item(household.project_id))
    project = {"project_id": household.project_id}
    assert await ids_listed(household.owner, **project, collection_id=filed["collection_id"]) == [filed["id"]]
    assert await ids_listed(household.owner, **project, uncollected=True) == [loose["id"]]
    both = {**project, "collection_id": filed["collection_id"], "uncollected": True}
    assert await household.owner.refused("items.list", both) == (422, "invalid_input")
    other = (await household.owner.op("projects.create", {"name": "Other"}))["id"]
    elsewhere = {"project_id": other, "collection_id": filed["collection_id"]}
    assert await household.owner.refused("items.list", elsewhere) == (404, "not_found")


@pytest.mark.parametrize("operation_id", ["items.get", "items.get_stac", "items.list_assets", "items.lineage"])
async def test_others_see_nothing(household, operation_id):
    made = await register(household, item=item(household.project_id))
    assert await household.stranger.refused(operation_id, {"item_id": made["id"]}) == (404, "not_found")
    await household.sql("UPDATE item SET deleted_at = now()")
    assert await household.owner.refused(operation_id, {"item_id": made["id"]}) == (404, "not_found")


async def test_others_list_nothing(household):
    project = {"project_id": household.project_id}
    assert await household.stranger.refused("items.list", project) == (404, "not_found")
    assert (await household.operator.op("items.list", project))["total"] == 0


async def test_stac_feature_of_a_real_raster_is_valid(household, shared_data, validator):
    order_id = await insert_order(household)
    path = shared_data / "imagery" / BOLZANO
    names = ["red", "green", "blue", "nir", "scl"]
    made = await register(
        household,
        item=item(household.project_id, order_id=order_id, properties={"platform": "sentinel-2a"}),
        assets=[asset_over(path, band_names=names), asset("overview", roles=["overview"], media_type="image/png")],
        parents=[("order", order_id), ("capture", "test-archive/SCENE_1")],
        collection_for=order_id,
    )
    feature = await household.owner.op("items.get_stac", {"item_id": made["id"]})
    await validated(validator, feature)
    assert feature["stac_version"] == "1.0.0"
    assert feature["stac_extensions"][0] == BASE_URL + GEOPERA_EXTENSION_PATH
    file = feature["assets"]["data"]
    assert (file["proj:epsg"], file["proj:shape"]) == (32632, [705, 935])
    assert [band["common_name"] for band in file["eo:bands"][:4]] == names[:4]
    assert file["eo:bands"][4] == {"name": "scl"}
    west, south, east, north = file["proj:bbox"]
    assert (east - west, north - south) == pytest.approx((9_350, 7_050))
    assert file["raster:bands"][0]["data_type"] == "uint16"
    assert file["raster:bands"][0]["statistics"]["mean"] == 812.5
    assert feature["properties"]["eo:cloud_cover"] == 3.0
    provenance = feature["properties"]["geopera:provenance"]
    assert (provenance["origin_type"], provenance["origin_id"]) == ("order", order_id)
    assert provenance["record_hash"] is None
    await household.seal()
    sealed = (await household.owner.op("items.get_stac", {"item_id": made["id"]}))["properties"]["geopera:provenance"]
    assert len(sealed["record_hash"]) == 64
    rels = [link["rel"] for link in feature["links"]]
    assert rels == ["self", "root", "parent", "collection", "derived_from", "derived_from", "via"]
    assert feature["collection"] == made["collection_id"]


async def validated(validator, feature) -> None:
    logging.disable(logging.ERROR)
    try:
        validator.validate(feature, pystac.STACObjectType.ITEM, "1.0.0", feature["stac_extensions"])
    finally:
        logging.disable(logging.NOTSET)


async def test_our_extension_is_served_and_strict(server, validator):
    served = await server.http.get(GEOPERA_EXTENSION_PATH)
    assert served.status_code == 200
    assert served.json() == extension_schema(server.base_url)
    wrong = {"id": "x", "type": "Feature", "stac_extensions": [BASE_URL + GEOPERA_EXTENSION_PATH], "properties": {}}
    with pytest.raises(pystac.STACValidationError, match="is a required property"):
        validator.validate_extension(wrong, pystac.STACObjectType.ITEM, "1.0.0", BASE_URL + GEOPERA_EXTENSION_PATH)


async def test_stac_of_the_least_that_an_item_can_be(household, validator):
    more = {"datetime": None, "start_datetime": "2022-01-01T00:00:00Z", "end_datetime": "2022-02-01T00:00:00Z"}
    bare = item(household.project_id, geometry=None, gsd=None, cloud_cover=None, **more)
    made = await register(household, item=bare)
    feature = await household.owner.op("items.get_stac", {"item_id": made["id"]})
    await validated(validator, feature)
    assert feature["geometry"] is None
    assert feature["collection"] == f"project-{household.project_id}"


async def test_stac_links_begin_where_the_caller_says(household):
    made = await register(household, item=item(household.project_id), assets=[asset()])
    given = {"item_id": made["id"], "base_url": "https://eo.example.com/geo/"}
    feature = await household.owner.op("items.get_stac", given)
    hrefs = [link["href"] for link in feature["links"]] + [feature["assets"]["data"]["href"], feature["stac_extensions"][0]]
    assert all(href.startswith("https://eo.example.com/geo/") and BASE_URL not in href for href in hrefs)
    for wrong in ("ftp://eo.example.com", "eo.example.com", "https://eo.example.com?x=1", "javascript:alert(1)"):
        assert await household.owner.refused("items.get_stac", {**given, "base_url": wrong}) == (422, "invalid_input")


async def test_stac_is_sent_as_geojson(household):
    made = await register(household, item=item(household.project_id))
    from geopera_server.kernel.pipeline import Call

    operation = household.house.registry.get("items.get_stac")
    call = Call(operation=operation, given={"id": made["id"]}, principal=household.owner.principal)
    assert (await household.house.kernel.run(call)).media_type == "application/geo+json"


async def test_lineage_shows_both_sides_as_trees(household):
    order_id = await insert_order(household)
    source = await register(
        household,
        item=item(household.project_id, order_id=order_id),
        assets=[asset()],
        parents=[("order", order_id), ("capture", "host/SCENE_1")],
    )
    derived = await register(
        household, item=item(household.project_id, "NDVI"), parents=[("item", source["id"]), ("order", order_id)]
    )
    family = await household.owner.op("items.lineage", {"item_id": derived["id"]})
    assert family["children"] == []
    assert [(one["entity_type"], one["name"]) for one in family["parents"]] == [("item", "SCENE_1"), ("order", "Spring order")]
    item_node, order_node = family["parents"]
    grandparents = {(one["entity_type"], one["entity_id"]): one for one in item_node["parents"]}
    assert grandparents.keys() == {("order", order_id), ("capture", "host/SCENE_1")}
    assert "parents" not in grandparents["order", order_id], "the order is followed where it is nearest"
    assert order_node["parents"] == []
    down = await household.owner.op("items.lineage", {"item_id": source["id"]})
    assert sorted(one["entity_type"] for one in down["children"]) == ["asset", "item"]


async def test_lineage_goes_ten_levels(household):
    previous, made = [], None
    for number in range(13):
        made = await register(household, item=item(household.project_id, f"G{number}"), parents=previous)
        previous = [("item", made["id"])]
    node, levels = {"parents": (await household.owner.op("items.lineage", {"item_id": made["id"]}))["parents"]}, 0
    while node["parents"]:
        [node] = node["parents"]
        levels += 1
    assert levels == 10


async def test_an_unknown_project_is_unknown(household):
    for project_id in (new_id(), "nothing"):
        assert await household.owner.refused("items.list", {"project_id": project_id}) == (404, "not_found")
