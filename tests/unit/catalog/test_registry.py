"""Saving sources, importing scenes, and what customers are told of both."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from geopera_server.domains.catalog.importing import read_batch
from geopera_server.domains.catalog.seed import SOURCES, seed_sources
from geopera_server.domains.pricing.seed import seed_price_list
from geopera_server.kernel.errors import InvalidInput, NotFound
from support.catalogue import collection, item, opened_catalogue, source
from support.stac_api import StacApi, real_items

ARCHIVE = {"id": "archive", "title": "Archive", "access_model": "commercial", "connector": {"kind": "index"}}


@pytest.fixture
def catalogue(empty_catalogue):
    return empty_catalogue


async def import_scenes(catalogue, features: list[Any], host: str = "archive", **more: Any) -> dict[str, Any]:
    return await catalogue.op("catalog.admin.scenes_import", {"host": host, "features": features, **more})


async def found(catalogue, **body: Any) -> list[str]:
    reply = await catalogue.op("catalog.search", {"full_catalog": True, **body})
    return [feature["id"] for feature in reply["features"]]


async def test_a_new_source_needs_little_and_says_all(catalogue):
    saved = await catalogue.op("catalog.admin.source_save", {"id": "tiny"})
    assert saved == {
        "id": "tiny", "title": "tiny", "description": "", "access_model": "commercial", "scope": "global", "countries": [],
        "attribution": "", "license": "", "collections": [],
    }  # fmt: skip
    assert [each["id"] for each in (await catalogue.op("catalog.sources.list"))["sources"]] == ["tiny"]


async def test_saving_again_changes_only_what_is_given(catalogue):
    coverage = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]]}
    full = {
        **ARCHIVE, "description": "Flights", "scope": "national", "countries": ["it", "AT"], "license": "ours",
        "collections": [collection("ortho", gsd=0.1)], "coverage": coverage, "vendor": "acme",
    }  # fmt: skip
    first = await catalogue.op("catalog.admin.source_save", full)
    assert first["countries"] == ["AT", "IT"]
    second = await catalogue.op("catalog.admin.source_save", {"id": "archive", "title": "New title"})
    assert second == {**first, "title": "New title"}
    (row,) = await catalogue.sql("SELECT coverage, vendor, connector FROM catalog_source WHERE id = 'archive'")
    assert (row["coverage"] is not None, row["vendor"], row["connector"]) == (True, "acme", {"kind": "index"})
    await catalogue.op("catalog.admin.source_save", {"id": "archive", "coverage": None, "active": False})
    (row,) = await catalogue.sql("SELECT coverage, active FROM catalog_source WHERE id = 'archive'")
    assert row == {"coverage": None, "active": False}
    assert (await catalogue.op("catalog.sources.list"))["sources"] == []


@pytest.mark.parametrize(
    ("wrong", "loc"),
    [
        ({"id": "Geo Pera"}, ["id"]),
        ({"id": "geopera"}, ["id"]),
        ({"id": "geo.example"}, ["id"]),
        ({"access_model": "free"}, ["access_model"]),
        ({"countries": ["Italy"]}, ["countries", 0]),
        ({"connector": {"kind": "stac"}}, ["connector", "url"]),
        ({"connector": {"kind": "stac", "url": "file:///etc/passwd"}}, ["connector", "url"]),
        ({"coverage": {"type": "Point", "coordinates": [0, 0]}}, ["coverage"]),
        ({"collections": [collection("a"), collection("a")]}, ["collections", 1, "id"]),
        ({"collections": [collection("a", data_type="music")]}, ["collections", 0, "data_type"]),
        ({"collections": [collection("a", access_model="maybe")]}, ["collections", 0, "access_model"]),
    ],
)
async def test_bad_sources_are_told_where(catalogue, wrong, loc):
    with pytest.raises(InvalidInput) as refused:
        await catalogue.op("catalog.admin.source_save", {**ARCHIVE, **wrong})
    assert refused.value.issues[0]["loc"] == ["body", *loc]


async def test_a_moved_source_forgets_what_it_said(catalogue):
    with StacApi(real_items()[:5]) as old, StacApi(real_items()[5:7]) as new:
        saved = {"id": "moving", "access_model": "open"}
        await catalogue.op("catalog.admin.source_save", {**saved, "connector": {"kind": "stac", "url": old.url}})
        assert len(await found(catalogue, host_name="moving")) == 5
        await catalogue.op("catalog.admin.source_save", {**saved, "connector": {"kind": "stac", "url": new.url}})
        assert len(await found(catalogue, host_name="moving")) == 2


async def test_sources_by_scope_country_and_kind(catalogue):
    await catalogue.put(
        source("b", title="Alpha", scope="national", countries=["AU"], collections=[collection("s", data_type="sar")])
    )
    await catalogue.put(source("a", title="beta", collections=[collection("o")]))

    async def listed(**filters: str) -> list[str]:
        return [each["id"] for each in (await catalogue.op("catalog.sources.list", filters))["sources"]]

    assert await listed() == ["b", "a"]
    assert await listed(scope="global") == ["a"]
    assert await listed(country="au") == ["b"]
    assert await listed(data_type="sar") == ["b"]
    assert await listed(data_type="optical", scope="national") == []
    assert await listed(scope="galactic") == []


async def test_vendors_are_told_with_their_prices(catalogue, place):
    await catalogue.put(source("siis", title="SI", vendor="siis", collections=[collection("kompsat")]), [])
    scenes = [
        item("A", "2024-05-01T00:00:00Z", gsd=0.4, **{"geopera:vendor": "acme"}),
        item("B", "2024-05-01T00:00:00Z", gsd=0.5),
    ]
    await catalogue.put(source("archive", title="Archive"), scenes)
    await catalogue.put(
        source("giver", title="Giver", access_model="open", collections=[collection("free", access_model="open")])
    )
    reply = await catalogue.op("catalog.vendors.list")
    by_id = {each["id"]: each for each in reply["vendors"]}
    assert set(by_id) == {"siis", "archive", "acme", "giver"}
    assert by_id["siis"] == {
        "id": "siis", "name": "SI", "hosts": ["siis"], "pricing_vendor": "siis", "collections": ["kompsat"],
        "resolutions": ["0.5m"], "capture_types": ["archive"], "orderable": True,
    }  # fmt: skip
    assert (by_id["acme"]["hosts"], by_id["acme"]["resolutions"], by_id["acme"]["orderable"]) == (["archive"], ["0.4m"], False)
    assert by_id["giver"]["orderable"] is True


async def test_scenes_are_imported_and_replaced(catalogue):
    await catalogue.op("catalog.admin.source_save", ARCHIVE)
    first = [item("A", "2024-05-01T00:00:00Z", gsd=0.5), item("B", "2024-05-02T00:00:00Z")]
    assert await import_scenes(catalogue, first) == {"imported": 2, "updated": 0, "rejected": []}
    again = await import_scenes(catalogue, [item("A", "2024-06-01T00:00:00Z"), item("C", "2024-05-03T00:00:00Z")])
    assert (again["imported"], again["updated"], [each["id"] for each in again["rejected"]]) == (1, 0, ["A"])
    assert await found(catalogue, host_name="archive") == ["C", "B", "A"]
    replaced = await import_scenes(catalogue, [item("A", "2024-06-01T00:00:00Z")], replace=True)
    assert replaced == {"imported": 0, "updated": 1, "rejected": []}
    assert await found(catalogue, host_name="archive") == ["A", "C", "B"]


async def test_deleted_scenes_can_come_back(catalogue):
    await catalogue.op("catalog.admin.source_save", ARCHIVE)
    await import_scenes(catalogue, [item("A", "2024-05-01T00:00:00Z"), item("B", "2024-05-02T00:00:00Z")])
    assert await catalogue.op("catalog.admin.scenes_delete", {"host": "archive", "ids": ["A", "nothing"]}) == {"deleted": 1}
    assert await found(catalogue, host_name="archive") == ["B"]
    assert await catalogue.op("catalog.admin.scenes_delete", {"host": "archive", "ids": ["A"]}) == {"deleted": 0}
    assert (await import_scenes(catalogue, [item("A", "2024-05-01T00:00:00Z")]))["rejected"] == []
    assert await found(catalogue, host_name="archive") == ["B", "A"]


async def test_collections_of_imported_scenes_become_known(catalogue):
    await catalogue.op("catalog.admin.source_save", {**ARCHIVE, "collections": [collection("declared")]})
    await import_scenes(catalogue, [item("A", "2024-05-01T00:00:00Z", collection="new", gsd=0.3)])
    (saved,) = (await catalogue.op("catalog.sources.list"))["sources"]
    assert [(each["id"], each["gsd"]) for each in saved["collections"]] == [("declared", None), ("new", 0.3)]
    assert await found(catalogue, host_name="archive", collections=["new"]) == ["A"]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"type": "Catalog"}, "no GeoJSON Feature"),
        ({"id": 7}, "id must be a text"),
        ({"id": ""}, "id must be a text"),
        ({"properties": {}}, "no datetime"),
        ({"properties": {"datetime": None, "start_datetime": "soon"}}, "no datetime"),
        ({"collection": None}, "no collection"),
        ({"geometry": None}, "geometry"),
        ({"geometry": {"type": "Point", "coordinates": [0, 0]}}, "Polygon"),
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [1, 0], [0, 1], [0, 0]]]}}, "Self-intersection"),
        ({"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [200, 0], [200, 1], [0, 0]]]}}, "longitude"),
        ({"assets": {"a": {"href": "http://example.com/a.tif"}}}, "asset 'a'"),
        ({"assets": {"a": {"href": "relative/a.tif"}}}, "asset 'a'"),
        ({"assets": {"a": {"href": "/srv/../etc/passwd"}}}, "asset 'a'"),
        ({"assets": {"a": {"href": "file://server/share.tif"}}}, "asset 'a'"),
        ({"assets": {"a": {"href": "javascript:alert(1)"}}}, "asset 'a'"),
        ({"assets": {"a": {"title": "no address"}}}, "asset 'a'"),
        ({"assets": [1]}, "assets must be"),
    ],
)
def test_unfit_items_are_rejected_with_the_reason(wrong, told):
    good = item("GOOD", "2024-05-01T00:00:00Z")
    batch = read_batch(source("archive"), [{**item("BAD", "2024-05-01T00:00:00Z"), **wrong}, good])
    assert [scene["id"] for scene in batch.scenes] == ["GOOD"]
    (rejected,) = batch.rejected
    assert told in rejected["reason"]


@pytest.mark.parametrize(
    "href", ["https://example.com/a.tif", "s3://bucket/a.tif", "/srv/a.tif", "file:///srv/a.tif", "http://127.0.0.1:9/a.tif"]
)
def test_addresses_that_assets_may_have(href):
    batch = read_batch(source("archive"), [item("A", "2024-05-01T00:00:00Z", assets={"data": {"href": href}})])
    assert batch.rejected == []
    assert batch.scenes[0]["assets"] == {"data": {"href": href}}


def test_an_id_that_comes_twice_is_taken_once():
    twice = [item("A", "2024-05-01T00:00:00Z"), item("A", "2024-05-02T00:00:00Z")]
    batch = read_batch(source("archive"), twice)
    assert [scene["captured_at"][:10] for scene in batch.scenes] == ["2024-05-01"]
    assert "twice" in batch.rejected[0]["reason"]


def test_real_items_are_fit():
    names = ("100-s2.json", "100-landsat.json", "pystac_client_items.json")
    items = [each for name in names for each in real_items(name) if each.get("collection")]
    batch = read_batch(source("archive"), items)
    assert len(batch.scenes) > 1400
    # What is left: repeats between the files, assets without an address, footprints a little beyond the 180th meridian.
    known = ("comes twice", "needs an https", "Coordinates are")
    assert [each for each in batch.rejected if not any(reason in each["reason"] for reason in known)] == []


async def test_importing_for_a_host_that_is_not_there(catalogue):
    with pytest.raises(NotFound):
        await import_scenes(catalogue, [], host="nobody")
    with pytest.raises(NotFound):
        await catalogue.op("catalog.admin.scenes_delete", {"host": "nobody", "ids": ["A"]})


async def test_two_imports_at_once_lose_nothing(catalogue):
    await catalogue.op("catalog.admin.source_save", ARCHIVE)
    batches = [[item(f"{n}-{k}", "2024-05-01T00:00:00Z", collection=f"c{n}") for k in range(5)] for n in range(4)]
    replies = await asyncio.gather(*(import_scenes(catalogue, batch) for batch in batches))
    assert [reply["imported"] for reply in replies] == [5] * 4
    (saved,) = (await catalogue.op("catalog.sources.list"))["sources"]
    assert {each["id"] for each in saved["collections"]} == {"c0", "c1", "c2", "c3"}


async def test_seeds_add_and_never_overwrite(database):
    async with opened_catalogue(database) as seeded, seeded.pool.connection() as conn:
        await seeded.sql("UPDATE catalog_source SET title = 'Ours' WHERE id = 'siis'")
        await seeded.sql("DELETE FROM catalog_source WHERE id = 'vantor'")
        await seeded.sql("DELETE FROM price_rule WHERE vendor = 'vantor'")
        await seed_sources(conn)
        await seed_price_list(conn)
        rows = {row["id"]: row["title"] for row in await seeded.sql("SELECT id, title FROM catalog_source")}
        prices = await seeded.sql("SELECT vendor, resolution, price_per_sqkm_aud AS aud FROM price_rule ORDER BY 1, 2")
    assert set(rows) == {each.id for each in SOURCES}
    assert rows["siis"] == "Ours"
    assert "vantor" not in {row["vendor"] for row in prices}
    assert {"vendor": "cgstl", "resolution": "0.75m", "aud": 8} in prices
