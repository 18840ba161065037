"""Organizations that go: on the calendar, off it, and for good."""

from __future__ import annotations

import pytest

from geopera_server.domains.billing import deletion
from geopera_server.domains.billing.store import purging
from geopera_server.domains.payments.cards.jobs import FORGET_CARD
from geopera_server.kernel.principal import service
from geopera_server.ledger.accruals import accrue
from geopera_server.ledger.postings import Cause
from geopera_server.ports.store import ObjectMissing
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support.cards import save_card
from support.house import Caller
from support.months import been_on
from support.orders import insert_order
from support.serving import OPENING_CREDITS

REQUEST, CANCEL = "organizations.deletion.request", "organizations.deletion.cancel"
SCHEDULE, CLEANUP = "billing.admin.schedule_deletion", "billing.cleanup_deleted_orgs"


@pytest.fixture
def given(household):
    return {"organization_id": household.place.home.organization_id}


@pytest.fixture
def clock(household):
    return Caller(household.house, service())


async def let_the_day_come(household) -> None:
    await household.sql("UPDATE organization SET deletion_due_at = now() - interval '1 hour' WHERE deletion_due_at IS NOT NULL")


async def organization(household):
    [row] = await household.sql("SELECT * FROM organization WHERE id = %s", household.place.home.organization_id)
    return row


async def stored_file(household, size: int = 1_000) -> str:
    """Stores a file of an item of the home organization and returns its path."""
    item_id, asset_id = new_id(), new_id()
    home = household.place.home
    href = f"projects/{home.project_id}/{asset_id}.tif"
    source = household.house.settings.data_dir / "file"
    source.write_bytes(b"x" * size)
    await household.house.store.put_file(href, source)
    await household.sql(
        "INSERT INTO item (id, organization_id, project_id, stac_id, type, name, period, created_at, updated_at)"
        " VALUES (%s, %s, %s, %s, 'user_raster', 'one', tstzrange(now(), now(), '[]'), now(), now())",
        item_id, home.organization_id, home.project_id, item_id,
    )  # fmt: skip
    await household.sql(
        "INSERT INTO asset (id, organization_id, project_id, item_id, key, href, media_type, file_name, file_size_bytes,"
        " created_at, updated_at) VALUES (%s, %s, %s, %s, 'data', %s, 'image/tiff', 'one.tif', %s, now(), now())",
        asset_id, home.organization_id, home.project_id, item_id, href, size,
    )  # fmt: skip
    return href


async def test_an_owner_asks_for_it_and_thinks_again(household, given):
    asked = await household.owner.op(REQUEST, {"days": 10, "reason": "Over"})
    assert asked["organization_id"] == given["organization_id"]
    [pending] = (await household.operator.op("billing.deletions.pending"))["organizations"]
    assert pending["purge_at"] == asked["scheduled_at"] > pending["scheduled_at"]
    assert (pending["reason"], pending["requested_by"]) == ("Over", household.place.home.user_id)
    status = await household.owner.op("billing.status.get", given)
    assert (status["standing"], status["deletion_scheduled_at"]) == ("pending_deletion", asked["scheduled_at"])
    assert await household.owner.op(CANCEL) == {**given, "scheduled_at": None}
    assert await household.owner.refused(CANCEL) == (409, "illegal_state")
    assert (await organization(household))["standing"] == "active"


async def test_only_the_owner_in_person(household):
    key = Caller(household.house, service(organization_id=household.place.home.organization_id))
    for operation_id in (REQUEST, CANCEL):
        assert await key.refused(operation_id) == (403, "human_required")
        assert await household.operator.refused(operation_id) in {(403, "role_required"), (403, "missing_scope")}


async def test_what_is_open_comes_first(household, given):
    cause = Cause(organization_id=given["organization_id"], invocation_id=new_id(), at=now())
    await household.sql("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", given["organization_id"])
    async with household.house.pool.connection() as conn, conn.transaction():
        await accrue(conn, cause, credits_accrued=5, order_id=new_id())
    assert await household.owner.refused(REQUEST) == (409, "illegal_state")
    assert await household.operator.refused(SCHEDULE, given) == (409, "illegal_state")
    assert (await household.operator.op(SCHEDULE, {**given, "force": True}))["scheduled_at"] is not None
    await let_the_day_come(household)
    assert (await household.operator.op(CLEANUP))["skipped"] == [{**given, "reason": "unbilled_orders"}]


async def test_what_was_promised_and_not_ordered_is_billed_first(household, given, clock):
    term = {"start_date": "2024-01-01", "end_date": "2024-06-30"}
    await household.operator.op("organizations.admin.commitments.save", {**given, **term, "sqkm_amount": 100, "rate_aud": 10})
    assert await household.owner.refused(REQUEST) == (409, "illegal_state")
    assert await household.operator.refused(SCHEDULE, given) == (409, "illegal_state")
    await household.operator.op(SCHEDULE, {**given, "force": True})
    await let_the_day_come(household)
    assert (await clock.op(CLEANUP))["skipped"] == [{**given, "reason": "unbilled_orders"}]
    await household.operator.op("billing.enterprise.mark_invoiced", {**given, "reference": "The rest"})
    assert len((await clock.op(CLEANUP))["purged"]) == 1


@pytest.mark.parametrize("reason", ["running_jobs", "undelivered_orders"])
async def test_nobody_goes_while_something_runs(household, given, clock, reason):
    order_id = await insert_order(household)
    if reason == "running_jobs":
        await household.sql(
            "INSERT INTO job (id, kind, organization_id, entity_id, run_after, invocation_id, created_at)"
            " VALUES (%s, 'orders.fulfil', %s, %s, now(), %s, now())",
            new_id(), given["organization_id"], order_id, new_id(),
        )  # fmt: skip
    assert await household.owner.refused(REQUEST) == (409, "illegal_state")
    await household.operator.op(SCHEDULE, given)
    await let_the_day_come(household)
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": [{**given, "reason": reason}]}
    assert (await organization(household))["purge_started_at"] is None


async def test_nobody_goes_while_a_payment_is_under_way(household, database, given, clock):
    been_on(database, given["organization_id"], "professional")
    taken = {**given, "credits": -OPENING_CREDITS, "reason": "Spent"}
    await household.operator.op("billing.admin.grant_credits", taken, key="spend")
    await save_card(household.house, given["organization_id"], "pm_card_authenticationRequired")
    assert (await household.owner.op("billing.run_monthly_for_org", given))["status"] == "past_due"
    assert await household.owner.refused(REQUEST) == (409, "illegal_state")
    await household.operator.op(SCHEDULE, given)
    await let_the_day_come(household)
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": [{**given, "reason": "open_payments"}]}


async def test_nothing_is_left_but_what_proves_something(household, given, clock):
    href = await stored_file(household)
    await save_card(household.house, given["organization_id"])
    await insert_order(household)
    await household.sql("UPDATE orders SET status = 'cancelled', cancelled_at = now()")
    await household.sql("UPDATE organization SET billing_email = 'me@home.example', abn = '1', billing_address = '{}'")
    entries = await household.sql("SELECT id FROM ledger_entry ORDER BY id")
    await household.owner.op("projects.create", {"name": "Second"})
    lineage = await household.sql("SELECT id FROM lineage_record ORDER BY id")
    await household.owner.op(REQUEST)
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": []}
    await let_the_day_come(household)
    done = await clock.op(CLEANUP)
    assert done == {"purged": [{**given, "storage_freed_bytes": 1_000}], "skipped": []}
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": []}
    with pytest.raises(ObjectMissing):
        await household.house.store.size(href)
    row = await organization(household)
    kept = {name: value for name, value in row.items() if isinstance(value, str) and "home" in value.lower()}
    assert kept == {}
    assert [row[name] for name in ("billing_email", "abn", "billing_address", "created_by")] == [None] * 4
    for table in {**purging.ACCESS, **purging.DATA}:
        if table not in {"project_member", "usage_dead_letter"}:
            left = await household.sql(f"SELECT * FROM {table} WHERE organization_id = %s", given["organization_id"])
            assert left == [], table
    assert await household.sql("SELECT id FROM ledger_entry ORDER BY id") == entries
    assert await household.sql("SELECT id FROM lineage_record ORDER BY id") == lineage
    [card] = await household.sql("SELECT detached_at, holder_name FROM payment_method")
    assert card["detached_at"] is not None


async def test_a_deleted_organization_is_unknown(household, given, clock):
    await household.operator.op(SCHEDULE, given)
    await let_the_day_come(household)
    await clock.op(CLEANUP)
    asked = [each for each in household.house.registry if "organization_id" in each.input_model.model_fields]
    for operation in asked:
        if operation.internal or operation.id.startswith("billing.reconciliation.list_"):
            continue
        of_it = {**(operation.example or {}), **given}
        assert await household.operator.refused(operation.id, of_it, key=operation.id) == (404, "not_found"), operation.id
    listed = await household.operator.op("billing.admin.organizations.list")
    assert given["organization_id"] not in {row["id"] for row in listed["organizations"]}
    assert (await household.operator.op("billing.deletions.pending"))["total"] == 0


async def test_what_was_begun_is_ended_and_cannot_be_taken_back(household, given, clock, monkeypatch):
    hrefs = [await stored_file(household) for _ in range(3)]
    await household.owner.op(REQUEST)
    await let_the_day_come(household)
    store = household.house.store
    delete, deleted = store.delete, []

    async def failing(path: str) -> None:
        if len(deleted) == 2:
            raise OSError("the store is away")
        deleted.append(path)
        await delete(path)

    monkeypatch.setattr(type(store), "delete", lambda _store, path: failing(path))
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": [{**given, "reason": "storage_unavailable"}]}
    monkeypatch.undo()
    cancel = "billing.admin.cancel_deletion"
    assert await household.operator.refused(cancel, given) == (409, "illegal_state")
    assert await household.sql("SELECT * FROM api_key WHERE organization_id = %s", given["organization_id"]) == []
    done = await clock.op(CLEANUP)
    assert [each["organization_id"] for each in done["purged"]] == [given["organization_id"]]
    for href in hrefs:
        with pytest.raises(ObjectMissing):
            await store.size(href)


async def test_what_comes_in_while_the_files_go_is_not_lost_sight_of(household, given, clock, monkeypatch):
    """A call that was let in before the doors were shut may register a file, or place an order, behind the purge's back."""
    href = await stored_file(household)
    await household.owner.op(REQUEST)
    await let_the_day_come(household)
    store, late = household.house.store, []
    delete = store.delete

    async def and_another_comes(path: str) -> None:
        await delete(path)
        if not late:
            late.append(await stored_file(household, 7))
            late.append(await insert_order(household))

    monkeypatch.setattr(type(store), "delete", lambda _store, path: and_another_comes(path))
    assert await clock.op(CLEANUP) == {"purged": [], "skipped": [{**given, "reason": "undelivered_orders"}]}
    assert await household.sql("SELECT id FROM orders WHERE id = %s", late[1]) != []
    await household.sql("UPDATE orders SET status = 'cancelled', cancelled_at = now()")
    monkeypatch.undo()
    assert len((await clock.op(CLEANUP))["purged"]) == 1
    for path in (href, late[0]):
        with pytest.raises(ObjectMissing):
            await store.size(path)


async def test_no_row_goes_before_its_file(household, given, clock, monkeypatch):
    await household.owner.op(REQUEST)
    await let_the_day_come(household)
    late = []

    async def comes_last(outside, organization_id: str) -> int:
        late.append(await stored_file(household))
        return 0

    monkeypatch.setattr(deletion, "_remove_leavings", comes_last)
    assert (await clock.op(CLEANUP))["skipped"] == [{**given, "reason": "files_left"}]
    monkeypatch.undo()
    assert (await clock.op(CLEANUP))["purged"] == [{**given, "storage_freed_bytes": 1_000}]
    with pytest.raises(ObjectMissing):
        await household.house.store.size(late[0])


async def test_objects_that_broken_work_has_left_go_too(household, given, clock):
    home, stranger = household.place.home, household.place.stranger
    source = household.house.settings.data_dir / "left"
    source.write_bytes(b"x" * 10)
    paths = [f"projects/{each.project_id}/orders/{new_id()}/0/1/00-data.tif" for each in (home, stranger)]
    for path in paths:
        await household.house.store.put_file(path, source)
    await household.owner.op(REQUEST)
    await let_the_day_come(household)
    assert await clock.op(CLEANUP) == {"purged": [{**given, "storage_freed_bytes": 10}], "skipped": []}
    with pytest.raises(ObjectMissing):
        await household.house.store.size(paths[0])
    assert await household.house.store.size(paths[1]) == 10


async def test_a_card_that_the_processor_has_yet_to_forget_is_not_forgotten_here(household, given, clock):
    await household.sql(
        "INSERT INTO job (id, kind, organization_id, entity_id, run_after, invocation_id, created_at)"
        " VALUES (%s, %s, %s, %s, now(), %s, now())",
        new_id(), FORGET_CARD, given["organization_id"], new_id(), new_id(),
    )  # fmt: skip
    await household.owner.op(REQUEST)
    await let_the_day_come(household)
    assert len((await clock.op(CLEANUP))["purged"]) == 1
    assert [row["kind"] for row in await household.sql("SELECT kind FROM job")] == [FORGET_CARD]


async def test_every_table_of_an_organization_is_kept_or_removed(household):
    """A new table that names an organization has to be put on one of the lists."""
    rows = await household.sql(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'organization_id'"
    )
    named = {row["table_name"] for row in rows} | {"organization", "project_member"}
    decided = purging.KEPT | purging.ACCESS.keys() | purging.DATA.keys()
    assert named == decided
    assert not purging.KEPT & (purging.ACCESS.keys() | purging.DATA.keys())
