"""What is stored against a plain model: whatever is done with items in whatever order, each file counts once while it is kept."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.deliveries import asset, deliver, item
from support.house import Household, inhabited
from support.working import do_jobs, objects_in, stored

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=2)
PICK = st.integers(0, 1_000)
OUTSIDE = {"href": "https://far.example/a.tif", "external": True, "file_size_bytes": 9_999}


@dataclass
class Item:
    """An item as the model has it; `files` are sizes by asset, and `due` whether its time is over."""

    id: str
    project_id: str
    files: dict[str, int]
    due: bool = False
    deleted: bool = False
    expired: bool = False
    erased: bool = False

    @property
    def takes(self) -> int:
        return 0 if self.deleted or self.expired else sum(self.files.values())


@dataclass
class World:
    """The house and the loop it lives on."""

    loop: asyncio.AbstractEventLoop
    household: Household
    seen: list[str] = field(default_factory=list)

    def do(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def sql(self, query, *values):
        return self.do(self.household.sql(query, *values))


class Storage(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.do, self.sql, self.owner = self.world.do, self.world.sql, self.world.household.owner
        self.items: list[Item] = []
        self.project_id = self.new_project()

    def new_project(self) -> str:
        return self.do(self.owner.op("projects.create", {"name": new_id()}))["id"]

    def some(self, pick, **wanted) -> Item | None:
        """One of the items that are as wanted."""
        fitting = [each for each in self.items if all(getattr(each, name) == value for name, value in wanted.items())]
        return fitting[pick % len(fitting)] if fitting else None

    @rule(sizes=SIZES, outside=st.booleans())
    def register(self, sizes, outside):
        files = [self.stored_file(number, size) for number, size in enumerate(sizes)]
        given = {"item": item(self.project_id, new_id()), "assets": [*files, *([asset("far", **OUTSIDE)] if outside else [])]}
        made = self.do(self.owner.run(deliver, given))
        self.items.append(Item(made["id"], self.project_id, self.files_of(made["id"])))

    def stored_file(self, number, size):
        path = f"projects/{self.project_id}/items/{new_id()}/{number}.tif"
        self.do(stored(self.world.household, path, b"x" * size))
        return asset(f"f{number}", href=path, file_size_bytes=size)

    def files_of(self, item_id):
        found = self.do(self.owner.op("items.list_assets", {"item_id": item_id}))["assets"]
        self.world.seen += [item_id, *(each["id"] for each in found)]
        return {each["id"]: each["file_size_bytes"] for each in found if each["key"] != "far"}

    @rule(pick=PICK)
    def name_again(self, pick):
        """A second item names the file of a first one: it counts for both."""
        source = self.some(pick, deleted=False, expired=False)
        if source is None or not source.files:
            return
        [row] = self.sql("SELECT href FROM asset WHERE id = %s", min(source.files))
        files = [{"key": "same", "media_type": "image/tiff", "href": row["href"]}]
        given = {"project_id": self.project_id, "name": "n", "type": "clip", "datetime": iso(now()), "assets": files}
        made = self.do(self.owner.op("items.create", given))
        self.items.append(Item(made["id"], self.project_id, self.files_of(made["id"])))

    @rule(pick=PICK)
    def duplicate(self, pick):
        source = self.some(pick, deleted=False)
        if source is None:
            return
        given = {"item_id": source.id, "target_project_id": self.project_id}
        if source.expired:
            assert self.do(self.owner.refused("items.duplicate", given)) == (410, "retention_expired")
            return
        made = self.do(self.owner.op("items.duplicate", given))
        self.items.append(replace(source, id=made["id"], project_id=self.project_id, files=self.files_of(made["id"])))

    @rule(pick=PICK)
    def delete(self, pick):
        if (found := self.some(pick, deleted=False)) is not None:
            self.do(self.owner.op("items.delete", {"item_id": found.id}))
            found.deleted = True

    @rule(pick=PICK)
    def restore(self, pick):
        if (found := self.some(pick, deleted=True)) is not None:
            reply = self.do(self.owner.op("items.restore", {"item_id": found.id}))
            found.deleted = False
            found.expired = found.expired or found.due
            assert (reply["lifecycle_state"] == "expired") == found.expired

    @rule(pick=PICK)
    def delete_file(self, pick):
        found = self.some(pick, deleted=False)
        if found is not None and found.files:
            asset_id = min(found.files)
            told = self.do(self.owner.op("assets.delete", {"item_id": found.id, "asset_id": asset_id}))
            assert told["storage_freed_bytes"] == (0 if found.expired else found.files[asset_id])
            del found.files[asset_id]

    @rule(pick=PICK)
    def let_time_pass(self, pick):
        if self.items:
            found = self.items[pick % len(self.items)]
            self.sql("UPDATE item SET expires_at = %s WHERE id = %s", now() - timedelta(minutes=1), found.id)
            found.due = True

    @rule()
    def expire(self):
        self.do(self.world.household.operator.op("items.expire_batch"))
        for each in self.items:
            each.expired = each.expired or (each.due and not each.deleted)

    @rule(pick=PICK)
    def keep_longer(self, pick):
        found = self.some(pick, deleted=False)
        if found is None:
            return
        given = {"item_ids": [found.id], "expires_at": None}
        if found.expired and found.erased and found.files:
            refused = self.do(self.world.household.operator.refused("items.admin.set_retention", given))
            assert refused == (409, "illegal_state")
            return
        self.do(self.world.household.operator.op("items.admin.set_retention", given))
        found.due = found.expired = found.erased = False

    @rule()
    def purge_after_a_month(self):
        for column in ("deleted_at", "expired_at"):
            self.sql(f"UPDATE asset SET {column} = {column} - interval '31 days' WHERE {column} IS NOT NULL")
        self.sql("UPDATE item SET deleted_at = deleted_at - interval '31 days' WHERE deleted_at IS NOT NULL")
        self.do(self.world.household.operator.op("items.admin.purge"))
        self.items = [each for each in self.items if not each.deleted]
        for each in self.items:
            each.erased = each.expired

    @precondition(lambda self: self.items)
    @rule()
    def delete_project(self):
        freed = sum(each.takes for each in self.items if each.project_id == self.project_id)
        reply = self.do(self.owner.op("projects.delete", {"project_id": self.project_id}))
        assert reply["storage_freed_bytes"] == freed
        self.items = [each for each in self.items if each.project_id != self.project_id]
        self.project_id = self.new_project()

    @rule()
    def erase_objects(self):
        """What is kept can still be read, whatever has been given up."""
        self.do(do_jobs(self.world.household, "objects.erase"))
        kept = set(self.do(objects_in(self.world.household, "projects")))
        named = self.sql("SELECT href FROM asset WHERE NOT external AND deleted_at IS NULL AND erased_at IS NULL")
        assert {row["href"] for row in named} <= kept

    @invariant()
    def each_file_counts_once_while_it_is_kept(self):
        organization_id = self.world.household.place.home.organization_id
        expected = sum(each.takes for each in self.items)
        rows = self.sql("SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s", organization_id)
        assert [(row["bytes"], row["ledger_bytes"]) for row in rows or [{"bytes": 0, "ledger_bytes": 0}]] == [
            (expected, expected)
        ]
        [of_project] = self.sql("SELECT sum(bytes) AS bytes FROM storage_of_project WHERE project_id = %s", self.project_id)
        assert (of_project["bytes"] or 0) == sum(each.takes for each in self.items if each.project_id == self.project_id)
        [day] = self.sql("SELECT sum(bytes_delta) AS bytes FROM storage_day WHERE organization_id = %s", organization_id)
        assert (day["bytes"] or 0) == expected

    def teardown(self):
        self.do(self.owner.op("projects.delete", {"project_id": self.project_id}))


async def require_true_lineage(household, seen):
    while await household.seal():
        pass
    assert (await household.owner.op("provenance.verify"))["breaks"] == []
    for entity_id in seen:
        [kind] = await household.sql("SELECT DISTINCT entity_type AS name FROM lineage_record WHERE entity_id = %s", entity_id)
        told = await household.owner.op("provenance.verify", {"entity_type": kind["name"], "entity_id": entity_id})
        assert told["ok"], (kind["name"], entity_id, told)


@pytest.mark.timeout(300)
async def test_every_file_counts_exactly_once_while_it_is_kept(database, place, tmp_path):
    async with inhabited(database, place, tmp_path) as household:
        await household.sql("UPDATE plan SET included = included || '{\"projects\": null}'")
        Storage.world = World(asyncio.get_running_loop(), household)
        chosen = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
        await asyncio.to_thread(run_state_machine_as_test, Storage, settings=chosen)
        await require_true_lineage(household, Storage.world.seen[:400])
