"""The pipeline's promises, shown on small operations over a real database."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from datetime import timedelta

import orjson
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.kernel.chain import record_digest
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound, PaymentRequired, RateLimited, Unauthenticated
from geopera_server.kernel.operation import operation, operation_of
from geopera_server.kernel.pipeline import Call, Kernel, LineageMissing
from geopera_server.kernel.policy import RateCaps
from geopera_server.kernel.principal import Admission, Principal
from geopera_server.values.clock import iso
from geopera_server.values.ids import new_id


class Given(BaseModel):
    name: str = "x"
    fails: bool = False


class Made(TypedDict):
    id: str
    secret: str


async def make(ctx: Context, given: Given) -> Made:
    """Makes a project row."""
    project_id = new_id()
    await ctx.conn.execute(
        "INSERT INTO project (id, organization_id, name, region, storage_prefix, created_at, updated_at)"
        " VALUES (%s, %s, %s, 'r', 'p', %s, %s)",
        (project_id, ctx.organization_id, given.name, ctx.now, ctx.now),
    )
    ctx.emit("project.created", ("project", project_id), {})
    ctx.enqueue("nothing", project_id)
    if given.fails:
        raise Conflict("no")
    return Made(id=project_id, secret="shown once")


async def make_with_lineage(ctx: Context, given: Given) -> Made:
    """Makes a project row and says so."""
    made = await make(ctx, given)
    ctx.lineage.edge(("project", made["id"]), state={"name": given.name})
    return made


declared = operation("test.make", effect="compute", scope="projects:write", raw=True, idempotent=True)(make_with_lineage)
MAKE = operation_of(declared)
SECRET = operation_of(
    operation("test.secret", effect="compute", scope="projects:write", raw=True, idempotent=True, secret_id_field="id")(make)
)
SILENT = operation_of(operation("test.silent", effect="compute", scope="projects:write", raw=True, produces=("project",))(make))


@dataclass
class Bench:
    kernel: Kernel
    principal: Principal

    async def run(self, operation, given=None, **more):
        return await self.kernel.run(Call(operation=operation, given=given or {}, principal=self.principal, **more))

    async def rows(self, query: str, *values):
        async with self.kernel.pool.connection() as conn:
            return await (await conn.execute(query, values)).fetchall()


@pytest.fixture
async def bench(server):
    home = server.place.home
    principal = Principal(kind="user", id=home.user_id, organization_id=home.organization_id, scopes=frozenset({"projects:*"}))
    return Bench(server.house.kernel, principal)


COUNTS = (
    "SELECT (SELECT count(*) FROM project) AS projects, (SELECT count(*) FROM outbox_event) AS events,"
    " (SELECT count(*) FROM job) AS jobs, (SELECT count(*) FROM lineage_record) AS records,"
    " (SELECT count(*) FROM idempotency_record) AS replies"
)


async def test_a_refused_call_changes_nothing_but_its_audit_row(bench):
    before = await bench.rows(COUNTS)
    call = Call(operation=MAKE, given={"fails": True}, principal=bench.principal, idempotency_key="k")
    with pytest.raises(Conflict):
        await bench.kernel.run(call)
    assert await bench.rows(COUNTS) == before
    [row] = await bench.rows("SELECT status, code, outcome FROM audit_event WHERE invocation_id = %s", call.invocation_id)
    assert row == {"status": 409, "code": "conflict", "outcome": "failed"}
    assert (await bench.run(MAKE, {"fails": False}, idempotency_key="k")).status == 200


async def test_a_call_that_keeps_quiet_about_an_artifact_is_taken_back(bench):
    before = await bench.rows(COUNTS)
    call = Call(operation=SILENT, given={}, principal=bench.principal)
    with pytest.raises(LineageMissing):
        await bench.kernel.run(call)
    assert await bench.rows(COUNTS) == before
    [row] = await bench.rows("SELECT status FROM audit_event WHERE invocation_id = %s", call.invocation_id)
    assert row["status"] == 500


async def test_a_key_is_answered_once_and_replayed_byte_for_byte(bench):
    first = await bench.run(MAKE, {"name": "a"}, idempotency_key="k")
    second = await bench.run(MAKE, {"name": "a"}, idempotency_key="k")
    assert (second.body, second.status, second.headers) == (first.body, first.status, {"Idempotency-Replayed": "true"})
    with pytest.raises(Conflict) as other:
        await bench.run(MAKE, {"name": "b"}, idempotency_key="k")
    assert other.value.code == "idempotency_mismatch"


async def test_a_one_time_secret_is_not_replayed_and_not_kept(bench):
    first = orjson.loads((await bench.run(SECRET, idempotency_key="k")).body)
    with pytest.raises(Conflict) as again:
        await bench.run(SECRET, idempotency_key="k")
    assert again.value.code == "conflict"
    assert first["id"] in again.value.detail
    [row] = await bench.rows("SELECT body FROM idempotency_record")
    assert row["body"] is None


async def test_a_key_in_use_is_refused_at_once(bench):
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(ctx: Context, given: Given) -> Made:
        """Takes its time."""
        begun.set()
        await may_end.wait()
        return await make(ctx, given)

    described = operation_of(operation("test.slow", effect="compute", scope="projects:write", raw=True, idempotent=True)(slow))
    running = asyncio.create_task(bench.run(described, idempotency_key="k"))
    await begun.wait()
    with pytest.raises(Conflict) as meanwhile:
        await asyncio.wait_for(bench.run(described, idempotency_key="k"), timeout=5)
    assert (meanwhile.value.code, meanwhile.value.retry_after_s) == ("idempotency_in_progress", 1)
    may_end.set()
    assert (await running).status == 200


async def test_scope_is_asked_before_input(bench):
    stranger = Principal(kind="user", id=new_id(), organization_id=new_id())
    with pytest.raises(Exception, match=re.escape("missing scope 'projects:write' for 'test.make'")):
        await bench.kernel.run(Call(operation=MAKE, given={"name": 5}, principal=stranger))
    with pytest.raises(InvalidInput):
        await bench.run(MAKE, {"name": 5})


@pytest.mark.parametrize("standing", ["suspended", "past_due"])
async def test_standing_limits_what_may_be_done(bench, standing):
    spend = operation_of(operation("test.spend", effect="external_spend", scope="projects:write", raw=True)(make))
    principal = Principal(**{**fields(bench.principal), "standing": standing})
    with pytest.raises((PaymentRequired, Exception)) as refusal:
        await bench.kernel.run(Call(operation=spend, given={}, principal=principal))
    assert refusal.value.code == {"suspended": "org_suspended", "past_due": "account_past_due"}[standing]


def fields(principal: Principal) -> dict:
    return {name: getattr(principal, name) for name in ("kind", "id", "organization_id", "scopes", "session_id")}


async def test_a_malformed_id_is_an_unknown_id(bench):
    async def look(ctx: Context, given: Given) -> Made:
        """Looks."""
        await ctx.conn.execute("SELECT 1 FROM project WHERE id = %s", (given.name,))
        return Made(id="", secret="")

    described = operation_of(operation("test.look", effect="read", scope="projects:read", raw=True)(look))
    with pytest.raises(NotFound):
        await bench.run(described, {"name": "not-an-id"})


async def test_caps_hold_over_all_processes(server):
    """Two kernels over one database, as two API processes have them, count in one window."""
    principal = Principal(
        kind="api_key", id=new_id(), organization_id=server.place.home.organization_id, scopes=frozenset({"*"})
    )

    async def authenticate(conn, credential, rate_class):
        cursor = await conn.execute(
            "INSERT INTO rate_window AS w VALUES ('t', date_trunc('hour', now()), 1)"
            " ON CONFLICT (bucket, window_start) DO UPDATE SET used = w.used + 1 RETURNING w.used"
        )
        return Admission(principal=principal, used_by_organization=(await cursor.fetchone())["used"])

    kernels = [twin(server.house.kernel, authenticate, RateCaps(default=10)) for _ in range(2)]
    calls = [kernels[n % 2].run(Call(operation=MAKE, given={"name": str(n)}, credential=CREDENTIAL)) for n in range(16)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    refused = [result for result in results if isinstance(result, RateLimited)]
    assert len(refused) == 6
    assert all(1 <= error.retry_after_s <= 60 for error in refused)


CREDENTIAL = object()


def twin(kernel: Kernel, authenticate, caps: RateCaps) -> Kernel:
    return Kernel(
        pool=kernel.pool, ports=kernel.ports, links=kernel.links, secrets=kernel.secrets, authenticate=authenticate, caps=caps
    )


async def test_no_credential_is_401_and_audited(bench):
    call = Call(operation=MAKE, given={})
    with pytest.raises(Unauthenticated):
        await bench.kernel.run(call)
    await bench.kernel.reads_audit.flush()
    [row] = await bench.rows("SELECT outcome, principal_type FROM audit_event WHERE invocation_id = %s", call.invocation_id)
    assert row == {"outcome": "denied", "principal_type": "guest"}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**40])
async def test_an_integer_beyond_64_bits_is_refused(bench, number):
    for given in ({"name": number}, {"unknown": [{"deep": number}]}):
        call = Call(operation=MAKE, given=given, principal=bench.principal)
        with pytest.raises(InvalidInput, match="64 bits"):
            await bench.kernel.run(call)
    assert (await bench.run(MAKE, {"unknown": [2**64 - 1, -(2**63)]})).status == 200


LATER = timedelta(hours=1)


class Many(BaseModel):
    count: int


async def tell_much(ctx: Context, given: Many) -> Made:
    """Records, tells and queues as often as it is asked to."""
    for number in range(given.count):
        ctx.lineage.edge(("capture", f"c{number}"), state={"n": number}, parents=[("aoi", f"a{number}"), ("aoi", "all")])
        ctx.emit("item.updated", ("item", f"i{number}"), {"number": number, "at": ctx.now, "text": "é"})
        ctx.enqueue("much", ctx.invocation_id if number % 2 else new_id(), {"number": number}, run_after=ctx.now + LATER)
    return Made(id="x", secret="x")


MUCH = operation_of(operation("test.much", effect="compute", scope="projects:write", raw=True)(tell_much))


async def test_much_that_is_told_at_once_keeps_its_order(bench):
    call = Call(operation=MUCH, given={"count": 2_500}, principal=bench.principal)
    await bench.kernel.run(call)
    records = await bench.rows(
        "SELECT entity_id, parents, digest_after, record_digest FROM lineage_record WHERE invocation_id = %s ORDER BY id",
        call.invocation_id,
    )
    assert [row["entity_id"] for row in records] == [f"c{number}" for number in range(2_500)]
    assert records[7]["parents"] == [{"entity_type": "aoi", "entity_id": each} for each in ("a7", "all")]
    edges = await bench.rows("SELECT src_id, dst_id FROM lineage_edge WHERE src_type = 'capture'")
    assert {(row["src_id"], row["dst_id"]) for row in edges} == {
        (f"c{number}", parent) for number in range(2_500) for parent in (f"a{number}", "all")
    }
    told = await bench.rows(
        "SELECT entity_id, data, occurred_at FROM outbox_event WHERE invocation_id = %s ORDER BY position", call.invocation_id
    )
    assert [row["entity_id"] for row in told] == [f"i{number}" for number in range(2_500)]
    assert told[3]["data"] == {"number": 3, "at": iso(told[3]["occurred_at"]), "text": "é"}
    jobs = await bench.rows("SELECT payload, run_after, created_at FROM job WHERE kind = 'much'")
    assert len(jobs) == 1_251, "of an entity's jobs of a kind there is one"
    assert all(row["run_after"] == row["created_at"] + LATER for row in jobs)
    found = await bench.rows(
        "SELECT organization_id, invocation_id, operation_id, principal_type, principal_id, kind, entity_type, entity_id,"
        " parents, digest_before, digest_after, recorded_at, record_digest FROM lineage_record WHERE invocation_id = %s",
        call.invocation_id,
    )
    assert all(record_digest(row) == row["record_digest"] for row in found)
