"""What is counted about a project."""

from __future__ import annotations

from datetime import timedelta

from geopera_server.values.clock import now
from support.deliveries import asset, deliver, item

STATS = "projects.stats"


async def test_an_empty_project(household):
    assert await household.owner.op(STATS, {"project_id": household.project_id}) == {
        "project_id": household.project_id, "storage_bytes": 0, "items_by_type": {}, "tile_requests_month": 0,
        "credits_month": 0, "bbox": None, "datetime_range": None,
    }  # fmt: skip


async def test_what_a_project_holds(household):
    for number, kind in enumerate(("satellite_capture", "satellite_capture", "clip")):
        given = item(household.project_id, f"S{number}", type=kind, datetime=f"202{number}-01-01T00:00:00+00:00")
        await household.owner.run(deliver, {"item": given, "assets": [asset()]})
    await household.owner.run(deliver, {"item": item(household.project_id, "BARE", geometry=None)})
    gone = await household.owner.run(deliver, {"item": item(household.project_id, "GONE"), "assets": [asset()]})
    await household.owner.op("items.delete", {"item_id": gone["id"]})
    found = await household.owner.op(STATS, {"project_id": household.project_id})
    assert found["items_by_type"] == {"clip": 1, "satellite_capture": 3}
    assert found["storage_bytes"] == 3_000
    assert found["bbox"] == [11.2, 46.4, 11.3, 46.5]
    assert found["datetime_range"] == {"start": "2020-01-01T00:00:00.000Z", "end": "2022-06-12T10:10:00.000Z"}


async def test_the_month_is_this_one_and_the_project_is_this_one(household):
    home = household.place.home
    other = (await household.owner.op("projects.create", {"name": "Other"}))["id"]
    today = now().date()
    days = [(today, home.project_id, 30), (today.replace(day=1) - timedelta(days=1), home.project_id, 500), (today, other, 7)]
    for day, project_id, amount in days:
        await household.sql(
            "INSERT INTO usage_day (organization_id, day, kind, project_id, amount) VALUES (%s, %s, 'tile_requests', %s, %s)",
            home.organization_id, day, project_id, amount,
        )  # fmt: skip
    assert (await household.owner.op(STATS, {"project_id": home.project_id}))["tile_requests_month"] == 30
    assert (await household.owner.op(STATS, {"project_id": other}))["tile_requests_month"] == 7
