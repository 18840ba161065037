"""Every change of what is stored has its entry, and differences are found, told and put right."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from support.stored import stored_asset

MB = 1_048_576


@pytest.fixture
def home(household) -> str:
    return household.place.home.organization_id


@pytest.fixture
def asset(household, home):
    async def add(size_bytes: int, **more) -> str:
        return await stored_asset(household.sql, home, household.project_id, size_bytes, **more)

    return add


async def total(household, organization_id: str) -> tuple[int, int]:
    [row] = await household.sql("SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s", organization_id)
    return row["bytes"], row["ledger_bytes"]


async def entries(household) -> list[tuple[str, int]]:
    rows = await household.sql("SELECT kind, bytes_delta FROM storage_entry ORDER BY number")
    return [(row["kind"], row["bytes_delta"]) for row in rows]


async def drift(household, home) -> dict:
    return await household.operator.op("billing.reconciliation.detect_drift", {"organization_id": home})


async def test_whoever_changes_an_asset_leaves_entries(household, home, asset):
    first, outside = await asset(1000), await asset(400, external=True)
    await asset(0)
    await household.sql("UPDATE asset SET file_size_bytes = 1500 WHERE id = %s", first)
    await household.sql("UPDATE asset SET title = 'other' WHERE id = %s", first)
    await household.sql("UPDATE asset SET external = false WHERE id = %s", outside)
    await household.sql("UPDATE asset SET deleted_at = now() WHERE id = %s", first)
    assert await total(household, home) == (400, 400)
    await household.sql("UPDATE asset SET deleted_at = NULL WHERE id = %s", first)
    await household.sql("DELETE FROM asset WHERE id = %s", outside)
    assert await entries(household) == [
        ("stored", 1000), ("stored", 500), ("stored", 400), ("removed", -1500), ("stored", 1500), ("removed", -400),
    ]  # fmt: skip
    assert await total(household, home) == (1500, 1500)
    assert (await drift(household, home))["drift_bytes"] == 0


async def test_an_asset_that_moves_takes_its_bytes_along(household, home, asset):
    other = (await household.owner.op("projects.create", {"name": "Other"}))["id"]
    moved = await asset(700)
    await household.sql("UPDATE asset SET project_id = %s WHERE id = %s", other, moved)
    projects = (await household.owner.op("usage.current", {"organization_id": home}))["projects"]
    assert {each["project_id"]: each["storage_bytes"] for each in projects} == {household.project_id: 0, other: 700}


async def test_what_is_taken_back_was_never_stored(household, home, asset):
    async with household.house.pool.connection() as conn, conn.transaction(force_rollback=True):

        async def sql(query, *values):
            await conn.execute(query, values)

        await stored_asset(sql, home, household.project_id, 1000)
    assert await entries(household) == []


async def test_entries_and_what_was_done_about_them_stay(household, home, asset):
    await asset(1000)
    await household.operator.op("billing.reconciliation.run", {"organization_id": home})
    correction = {"organization_id": home, "bytes_delta": 5, "reason": "to be kept"}
    await household.operator.op("billing.reconciliation.correct_drift", correction)
    for statement in (
        "UPDATE storage_entry SET bytes_delta = 1",
        "DELETE FROM storage_entry",
        "DELETE FROM storage_run",
        "UPDATE storage_correction SET bytes_delta = 1",
    ):
        with pytest.raises(psycopg.errors.IntegrityError, match="append-only"):
            await household.sql(statement)


async def test_every_sort_of_drift_is_found_and_put_right_once(household, home, asset):
    kept, lost, gone, twice = await asset(10 * MB), await asset(3 * MB), await asset(2 * MB), await asset(1 * MB)
    await household.tamper("DELETE FROM storage_entry WHERE asset_id = %s", lost)
    await household.tamper("DELETE FROM asset WHERE id = %s", gone)
    await household.sql("DELETE FROM asset WHERE id = %s", twice)
    await household.tamper("UPDATE storage_entry SET bytes_delta = -3000000 WHERE asset_id = %s AND bytes_delta < 0", twice)

    found = await drift(household, home)
    assert found["actual_bytes"] == 13 * MB
    assert found["ledger_bytes"] == 12 * MB + MB - 3_000_000
    assert found["drift_bytes"] == found["ledger_bytes"] - found["actual_bytes"]
    assert found["missing_events"] == [{"asset_id": lost, "bytes": 3 * MB}]
    assert found["stale_events"] == [{"asset_id": gone, "bytes": 2 * MB}]
    assert found["negative_nets"] == [{"asset_id": twice, "bytes": MB - 3_000_000}]
    assert (await household.operator.op("billing.reconciliation.list_runs"))["total"] == 0

    who = {"organization_id": home}
    backfilled = await household.operator.op("billing.reconciliation.backfill_missing", who)
    removed = await household.operator.op("billing.reconciliation.remove_stale", who)
    zeroed = await household.operator.op("billing.reconciliation.zero_negative_nets", who)
    assert (backfilled["backfilled"], backfilled["bytes_added"]) == (1, 3 * MB)
    assert (removed["removed"], removed["bytes_removed"]) == (1, 2 * MB)
    assert (zeroed["zeroed"], zeroed["bytes_added"]) == (1, 3_000_000 - MB)

    again = [
        await household.operator.op(f"billing.reconciliation.{each}", who)
        for each in ("backfill_missing", "remove_stale", "zero_negative_nets")
    ]
    assert [list(each.values())[1:] for each in again] == [[0, 0]] * 3
    after = await drift(household, home)
    assert (after["drift_bytes"], after["counts"]) == (0, {"missing": 0, "stale": 0, "negative": 0})
    assert await total(household, home) == (13 * MB, 13 * MB)
    corrections = await household.operator.op("billing.reconciliation.list_corrections", who)
    assert corrections["total"] == 3
    newest = corrections["corrections"][0]
    assert newest["asset_id"] == twice
    assert newest["applied_by"] == household.place.operator_id
    assert newest["ledger_bytes_after"] == 13 * MB
    assert (await drift(household, home))["missing_events"] == []
    assert kept


async def test_two_backfills_at_once_add_once(household, home, asset):
    lost = await asset(3 * MB)
    await household.tamper("DELETE FROM storage_entry WHERE asset_id = %s", lost)
    call = household.operator.op
    made = await asyncio.gather(*(call("billing.reconciliation.backfill_missing", {"organization_id": home}) for _ in range(4)))
    assert sorted(each["backfilled"] for each in made) == [0, 0, 0, 1]
    assert (await drift(household, home))["drift_bytes"] == 0


async def test_runs_are_kept_and_flagged_beyond_the_threshold(household, home, asset):
    lost = await asset(3 * MB)
    await household.tamper("DELETE FROM storage_entry WHERE asset_id = %s", lost)
    who = {"organization_id": home}
    quiet = (await household.operator.op("billing.reconciliation.run", {**who, "threshold_bytes": 3 * MB}))["run"]
    loud = (await household.operator.op("billing.reconciliation.run", who))["run"]
    assert (quiet["flagged"], loud["flagged"]) == (False, True)
    assert loud["threshold_bytes"] == MB
    assert loud["drift_bytes"] == -3 * MB
    assert loud["counts"] == {"missing": 1, "stale": 0, "negative": 0}
    listed = await household.operator.op("billing.reconciliation.list_runs", {**who, "flagged_only": True})
    assert listed == {"runs": [loud], "total": 1}
    assert (await household.operator.op("billing.reconciliation.list_runs", {"limit": 1}))["runs"] == [loud]
    for other in (household.place.stranger.organization_id, "nonsense"):
        assert (await household.operator.op("billing.reconciliation.list_runs", {"organization_id": other}))["total"] == 0


async def test_one_organization_that_fails_stops_no_other(household, home, asset):
    stranger = household.place.stranger
    await asset(5 * MB)
    for _ in range(2):
        asset_id = await stored_asset(household.sql, stranger.organization_id, stranger.project_id, 1)
        await household.tamper("UPDATE asset SET file_size_bytes = 9223372036854775807 WHERE id = %s", asset_id)
    await household.tamper("UPDATE storage_entry SET bytes_delta = 1 WHERE organization_id = %s", home)
    outcome = await household.operator.op("billing.reconciliation.run_all", {"threshold_bytes": 10})
    # The platform is an organization too.
    assert (outcome["runs"], outcome["flagged"], outcome["failed"]) == (2, 1, 1)
    assert outcome["errors"] == [{"organization_id": stranger.organization_id, "code": "internal_error"}]
    assert outcome["total_drift_bytes"] == 5 * MB - 1


async def test_a_correction_says_who_and_why_and_stops_at_zero(household, home, asset):
    asset_id = await asset(1000)
    given = {"organization_id": home, "bytes_delta": -400, "reason": "Moved by hand", "asset_id": asset_id}
    made = (await household.operator.op("billing.reconciliation.correct_drift", given))["correction"]
    assert (made["bytes_delta"], made["reason"], made["ledger_bytes_after"]) == (-400, "Moved by hand", 600)
    assert (await drift(household, home))["drift_bytes"] == -400
    assert await total(household, home) == (1000, 600)
    call = household.operator.refused
    correct = "billing.reconciliation.correct_drift"
    assert await call(correct, {**given, "bytes_delta": -601}) == (422, "invalid_input")
    assert await call(correct, {**given, "bytes_delta": 0}) == (422, "invalid_input")
    assert await call(correct, {**given, "reason": "  no  "}) == (422, "invalid_input")
    stranger = household.place.stranger
    foreign = await stored_asset(household.sql, stranger.organization_id, stranger.project_id, 5)
    for unknown in (foreign, "nonsense", "0192d3c4-0000-7000-8000-000000000000"):
        assert await call(correct, {**given, "asset_id": unknown}) == (404, "not_found")
    [row] = await household.sql("SELECT count(*) AS made FROM storage_correction")
    assert row["made"] == 1


async def test_operators_only(household, home):
    for operation_id in ("detect_drift", "run", "backfill_missing", "remove_stale", "zero_negative_nets"):
        asked = f"billing.reconciliation.{operation_id}"
        assert (await household.owner.refused(asked, {"organization_id": home}))[0] == 403
        for unknown in ("nonsense", "0192d3c4-0000-7000-8000-000000000000"):
            assert await household.operator.refused(asked, {"organization_id": unknown}) == (404, "not_found")


async def test_recalculating_counts_anew_and_flags_what_the_ledger_says_else(household, home, asset):
    await asset(1000)
    lost = await asset(500)
    await household.tamper("DELETE FROM storage_entry WHERE asset_id = %s", lost)
    await household.sql("UPDATE storage_total SET bytes = 77 WHERE organization_id = %s", home)
    who = {"organization_id": home}
    outcome = await household.owner.op("usage.recalculate_storage", who)
    del outcome["as_of"]
    assert outcome == {
        "organization_id": home, "previous_bytes": 77, "recalculated_bytes": 1500, "difference_bytes": 1423, "assets_counted": 2,
    }  # fmt: skip
    assert await total(household, home) == (1500, 1000)
    assert (await household.owner.op("usage.current", who))["storage"]["bytes_used"] == 1500
    [run] = (await household.operator.op("billing.reconciliation.list_runs", {"flagged_only": True}))["runs"]
    assert (run["drift_bytes"], run["counts"]["missing"]) == (-500, 1)
    assert await household.owner.refused("usage.recalculate_storage", who) == (429, "too_many_attempts")
    await asset(100)
    await household.operator.op("billing.reconciliation.backfill_missing", who)
    assert await total(household, home) == (1600, 1600)


async def test_recalculating_a_ledger_that_is_right_flags_nothing(household, home, asset):
    await asset(1000)
    assert (await household.owner.op("usage.recalculate_storage", {"organization_id": home}))["difference_bytes"] == 0
    assert (await household.operator.op("billing.reconciliation.list_runs"))["total"] == 0


async def test_totals_made_anew_are_those_that_were_kept(household, home, asset):
    for size in (1000, 20, 300):
        await asset(size)
    await household.sql("UPDATE asset SET deleted_at = now() WHERE file_size_bytes = 1000")
    tables = ("storage_day", "storage_of_project", "storage_total")
    kept = {
        table: await household.sql(f"SELECT to_jsonb(t) - 'recalculated_at' AS row FROM {table} t ORDER BY 1::text")
        for table in tables
    }
    await household.owner.op("usage.recalculate_storage", {"organization_id": home})
    made = {
        table: await household.sql(f"SELECT to_jsonb(t) - 'recalculated_at' AS row FROM {table} t ORDER BY 1::text")
        for table in tables
    }
    assert made == kept
    assert kept["storage_day"][0]["row"]["bytes_peak"] == 1320
