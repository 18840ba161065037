"""Searching items: who finds what, in which order, page by page."""

from __future__ import annotations

import json
import random

import pystac
import pytest
from shapely.geometry import MultiPoint, box, mapping

from geopera_server.domains.stac import statements, store
from geopera_server.domains.stac.ordering import Position
from geopera_server.domains.stac.wanted import Filters, read_wanted
from support.deliveries import asset, deliver, item
from support.orders import insert_order


async def register(household, **given):
    return await household.owner.run(deliver, given)


def square(west, south, size=0.1):
    east, north = west + size, south + size
    return {"type": "Polygon", "coordinates": [[[west, south], [east, south], [east, north], [west, north], [west, south]]]}


async def ids_of(caller, **given):
    return [feature["id"] for feature in (await caller.op("stac.search", given))["features"]]


async def test_features_are_those_of_get_stac(household):
    made = await register(
        household,
        item=item(household.project_id),
        assets=[asset(), asset("second", external=True, href="https://a.example/b.tif")],
    )
    await household.seal()
    alone = await household.owner.op("items.get_stac", {"item_id": made["id"]})
    for _ in range(2):  # made, then kept
        found = await household.owner.op("stac.search", {})
        [feature] = found["features"]
        for each in (alone, feature):
            each["assets"]["data"]["href"] = each["assets"]["data"]["href"].partition("?")[0]
        assert feature == alone
        assert (found["numberMatched"], found["numberReturned"]) == (1, 1)
        assert found["context"] == {"limit": 10, "matched": 1, "returned": 1}
        assert found["links"] == []
    [kept] = await household.sql("SELECT body, version FROM item_feature")
    assert kept["body"] is not None
    elsewhere = await household.owner.op("stac.search", {"base_url": "https://eo.example.com/"})
    assert elsewhere["features"][0]["links"][0]["href"].startswith("https://eo.example.com/v1/op/items.get_stac")
    assert elsewhere["features"][0]["assets"]["data"]["href"].startswith("https://eo.example.com/files/")


async def test_others_find_nothing(household):
    made = await register(household, item=item(household.project_id))
    stranger = household.stranger
    assert await ids_of(household.owner) == [made["stac_id"]]
    for given in (
        {},
        {"ids": [made["stac_id"]]},
        {"collections": [f"project-{household.project_id}"]},
        {"bbox": [-180, -90, 180, 90]},
    ):
        found = await stranger.op("stac.search", given)
        assert (found["features"], found["numberMatched"]) == ([], 0)
    assert (await stranger.op("items.search_org", {}))["features"] == []
    assert await stranger.refused("items.search", {"project_id": household.project_id}) == (404, "not_found")
    assert await household.owner.refused("items.search", {"project_id": "nonsense"}) == (404, "not_found")
    assert (await household.operator.op("items.search", {"project_id": household.project_id}))["numberMatched"] == 1
    assert (await stranger.op("stac.collections.list"))["collections"] == []


async def test_deleted_items_and_projects_are_not_found_and_expired_items_are(household):
    for name in ("GONE", "EXPIRED", "THERE"):
        await register(household, item=item(household.project_id, name), assets=[asset()])
    await household.sql("UPDATE item SET deleted_at = now() WHERE stac_id = 'GONE'")
    await household.sql("UPDATE item SET lifecycle_state = 'expired' WHERE stac_id = 'EXPIRED'")
    found = await household.owner.op("stac.search", {"sortby": [{"field": "id", "direction": "asc"}]})
    assert [(each["id"], bool(each["assets"])) for each in found["features"]] == [("EXPIRED", False), ("THERE", True)]
    await household.sql("UPDATE project SET deleted_at = now() WHERE id = %s", household.project_id)
    assert await ids_of(household.owner) == []
    assert await ids_of(household.owner, ids=["THERE"]) == []


async def test_kept_features_follow_their_items_and_assets(household):
    made = await register(household, item=item(household.project_id), assets=[asset()])
    await household.seal()
    await ids_of(household.owner)

    async def shown():
        [feature] = (await household.owner.op("stac.search"))["features"]
        return feature["properties"]["title"], sorted(feature["assets"])

    await household.sql("UPDATE item SET name = 'Other' WHERE id = %s", made["id"])
    assert await shown() == ("Other", ["data"])
    await household.sql("UPDATE asset SET key = 'more'")
    assert await shown() == ("Other", ["more"])
    await household.sql("UPDATE asset SET deleted_at = now()")
    assert await shown() == ("Other", [])


async def test_a_feature_made_of_older_rows_is_not_kept(household):
    made = await register(household, item=item(household.project_id))
    await household.seal()
    async with household.house.pool.connection() as conn:
        versions = await store.versions_of(conn, household.place.home.organization_id, [made["id"]])
        await household.sql("UPDATE item SET name = 'Newer' WHERE id = %s", made["id"])
        older = {"item_id": made["id"], "version": versions[made["id"]], "body": "old", "files": []}
        await store.keep_features(conn, household.place.home.organization_id, [older])
    assert await household.sql("SELECT body FROM item_feature") == [{"body": None}]


async def test_unsealed_provenance_is_not_kept(household):
    await register(household, item=item(household.project_id))
    [early] = (await household.owner.op("stac.search"))["features"]
    await household.seal()
    [late] = (await household.owner.op("stac.search"))["features"]
    assert early["properties"]["geopera:provenance"]["record_hash"] is None
    assert late["properties"]["geopera:provenance"]["record_hash"] is not None


@pytest.mark.parametrize(
    "given",
    [
        {"bbox": [0, 0, 1, 1], "intersects": {"type": "Point", "coordinates": [0, 0]}},
        {"bbox": [0, 0, 1]},
        {"bbox": [0, 5, 1, 1]},
        {"datetime": "yesterday"},
        {"filter": {"op": "nosuch", "args": [{"property": "a"}, 1]}},
        {"filter": {"op": "=", "args": [{"op": "nosuch", "args": [{"property": "a"}]}, 1]}},
        {"filter": {"op": "=", "args": [{"property": "a"}]}},
        {"filter": {"op": "like", "args": [{"property": "a"}, "ends with \\"]}},
        {"filter": {"op": "s_intersects", "args": [{"property": "geometry"}, {"type": "Point", "coordinates": [500, 0]}]}},
        {"filter": {"op": "t_after", "args": [{"property": "datetime"}, {"timestamp": "soon"}]}},
        {"filter": {"op": "and", "args": []}},
        {"filter": {"nonsense": 1}},
        {"filter": {"op": "=", "args": [{"property": "a"}, 1]}, "filter-lang": "ecql"},
        {"query": {"gsd": {"nosuch": 1}}},
        {"sortby": [{"field": "gsd", "direction": "sideways"}]},
        {"sortby": [{"field": "geometry"}]},
        {"token": "forged"},
        {"fields": {"include": "id"}},
        {"limit": 0},
        {"limit": 10_001},
        {"page": 2**60},
        {"base_url": "javascript:alert(1)"},
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused(household, given):
    status, _ = await household.owner.refused("stac.search", given)
    assert status == 422


async def test_a_token_serves_only_its_own_search(household):
    for number in range(3):
        await register(household, item=item(household.project_id, f"S{number}"))
    first = await household.owner.op("stac.search", {"limit": 1})
    post, get = first["links"]
    assert (post["method"], get["method"], post["rel"], get["rel"]) == ("POST", "GET", "next", "next")
    token = post["body"]["token"]
    assert await ids_of(household.owner, limit=2, token=token) == ["S1", "S2"]
    assert await household.owner.refused("stac.search", {"token": token, "ids": ["S1"]}) == (422, "invalid_input")
    assert await household.stranger.refused("stac.search", {"token": token}) == (422, "invalid_input")


async def test_values_never_become_part_of_a_statement():
    marked = "m'arked"
    filters = Filters(
        collections=[marked], ids=[marked], datetime="2024-01-01T00:00:00Z/..", bbox=[1.25, 2.25, 3.25, 4.25], type=marked,
        filter={"op": "or", "args": [
            {"op": "=", "args": [{"property": marked}, marked]},
            {"op": "like", "args": [{"property": "id"}, marked + "%"]},
            {"op": "in", "args": [{"property": "collection"}, [marked]]},
            {"op": "s_within", "args": [{"property": "geometry"}, {"bbox": [1.25, 2.25, 3.25, 4.25]}]},
        ]},
        query={marked: {"eq": marked}}, sortby=[{"field": marked, "direction": "desc"}], item_columns=True,
    )  # fmt: skip
    wanted = read_wanted(filters, organization_id=marked, project_id=marked, limit=10)
    after = Position(keys=(marked,), stac_id=marked, id=marked)
    texts = [
        statements.gathering(wanted, drive, after=after, settled=True) for drive in ("place", "ids", "terms", "newest", "all")
    ]
    texts += [statements.walking(wanted, "timed", after=after), statements.walking_cells(wanted, "timed", after=after)]
    texts += [statements.counting(wanted), statements.last_walked(wanted, "untimed", after=after)]
    for text in texts:
        assert "marked" not in text
        assert ".25" not in text
        assert "2024" not in text


async def test_fields_are_included_and_left_out(household):
    await register(household, item=item(household.project_id), assets=[asset()])

    async def keys(**fields):
        [feature] = (await household.owner.op("stac.search", {"fields": fields}))["features"]
        return set(feature), set(feature.get("properties", {}))

    assert await keys(include=["properties.datetime", "gsd"]) == (
        {"id", "type", "collection", "properties"},
        {"datetime", "gsd"},
    )
    top, properties = await keys(exclude=["assets", "properties.gsd"])
    assert "assets" not in top
    assert "links" in top
    assert "gsd" not in properties
    assert "datetime" in properties


async def test_items_are_searched_by_columns_names_and_query(household):
    order = await insert_order(household)
    filed = await register(household, item=item(household.project_id, "A", cloud_cover=5.0), collection_for=order)
    loose = await register(household, item=item(household.project_id, "B", cloud_cover=50.0, properties={"a": "x%y"}))
    [collection] = await household.sql("SELECT id, name FROM collection")

    async def found(**given):
        reply = await household.owner.op("items.search", {"project_id": household.project_id, **given})
        assert (reply["type"], reply["numberMatched"], reply["numberReturned"]) == (
            "FeatureCollection", len(reply["features"]), len(reply["features"]),
        )  # fmt: skip
        return [each["id"] for each in reply["features"]]

    assert await found(query={"cloud_cover": {"lt": 10}}) == [filed["id"]]
    assert await found(query={"a": {"startsWith": "x%"}}) == [loose["id"]]
    assert await found(query={"a": {"contains": "_"}}) == []
    assert await found(collections=[collection["name"].upper()]) == [filed["id"]]
    assert await found(collections=[collection["id"]]) == [filed["id"]]
    assert await found(type="clip") == []
    assert await found(sortby=[{"field": "cloud_cover", "direction": "desc"}]) == [loose["id"], filed["id"]]
    assert await found(format="stac", bbox=[11.25, 46.45, 11.26, 46.46]) == ["A", "B"]
    reply = await household.owner.op("items.search_org", {})
    assert reply["features"][0]["properties"]["lifecycle_state"] == "active"
    assert await household.owner.refused("items.search_org", {"format": "xml"}) == (422, "unknown_field_value")


async def test_collections_tell_what_their_items_span(household):
    order = await insert_order(household)
    filed = await register(
        household, item=item(household.project_id, "A", properties={"license": "CC-BY-4.0"}), collection_for=order
    )
    await register(household, item=item(household.project_id, "B", geometry=square(1, 2)))
    listed = await household.owner.op("stac.collections.list", {"base_url": "https://eo.example.com"})
    assert (listed["numberMatched"], listed["numberReturned"]) == (2, 2)
    shown = {each["id"]: each for each in listed["collections"]}
    own, rest = shown[filed["collection_id"]], shown[f"project-{household.project_id}"]
    for each in shown.values():
        pystac.Collection.from_dict(each)
    assert (own["license"], rest["license"]) == ("CC-BY-4.0", "proprietary")
    assert rest["extent"]["spatial"]["bbox"] == [[1.0, 2.0, 1.1, 2.1]]
    assert own["extent"]["temporal"]["interval"] == [["2022-06-12T10:10:00.000Z", "2022-06-12T10:10:00.000Z"]]
    assert own["geopera:project_id"] == rest["geopera:project_id"] == household.project_id
    assert own["summaries"]["gsd"] == {"minimum": 10.0, "maximum": 10.0}
    for collection_id, name in ((own["id"], "A"), (rest["id"], "B")):
        assert await ids_of(household.owner, collections=[collection_id]) == [name]


async def test_inner_boxes_lie_inside(household):
    dice = random.Random(3)
    for _ in range(200):
        outline = MultiPoint([(dice.gauss(0, 1), dice.gauss(0, 1)) for _ in range(dice.randrange(4, 14))]).convex_hull
        [row] = await household.sql("SELECT box_inside(%s::jsonb) AS inside", json.dumps(mapping(outline)))
        if row["inside"] is not None:
            east, north, west, south = (float(each) for each in row["inside"].replace("(", "").replace(")", "").split(","))
            assert outline.covers(box(west, south, east, north))
