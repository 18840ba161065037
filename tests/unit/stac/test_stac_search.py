"""Searching items: who finds what, in which order, page by page."""

from __future__ import annotations

from support.deliveries import asset, deliver, item


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
