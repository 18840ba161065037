"""The ledger against a plain model: any sequence of movements, mistakes and attacks leaves the figures that it should.

The model is a few integers. Every step runs on a real PostgreSQL through the code's own postings, and after every step the
figures are compared with the model and with what the entries add up to.
"""

from __future__ import annotations

import asyncio

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from geopera_server.db.pool import connection_arguments, make_pool
from geopera_server.domains.identity.bootstrap import create_organization
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.ledger import postings
from geopera_server.ledger.postings import Cause, Posting
from geopera_server.ledger.reading import balance_of
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id

AMOUNTS = st.integers(1, 1_000)
REFUSED = (psycopg.errors.IntegrityError, psycopg.errors.RaiseException)
TABLES = ("ledger_entry", "ledger_hold", "ledger_account")
ATTACKS = (
    "UPDATE ledger_entry SET credits = credits + 1 WHERE organization_id = %(home)s",
    "UPDATE ledger_entry SET note = 'changed' WHERE organization_id = %(home)s",
    "DELETE FROM ledger_entry WHERE organization_id = %(home)s",
    "TRUNCATE ledger_entry CASCADE",
    "UPDATE ledger_account SET balance = balance + 1000 WHERE organization_id = %(home)s",
    "UPDATE ledger_account SET reserved = 0 WHERE organization_id = %(home)s",
    "DELETE FROM ledger_account WHERE organization_id = %(home)s",
    "UPDATE ledger_hold SET settled = settled, released = released + 0 WHERE organization_id = %(home)s",
    "DELETE FROM ledger_hold WHERE organization_id = %(home)s",
    "TRUNCATE ledger_account, ledger_hold, ledger_entry CASCADE",
    (
        "INSERT INTO ledger_hold (id, organization_id, order_id, reserved, created_at)"
        " VALUES (gen_random_uuid(), %(home)s, gen_random_uuid(), 5, now())"
    ),
)
SUMS = (
    "SELECT count(*) AS entries, coalesce(sum(credits), 0) AS credits, coalesce(sum(reserved_delta), 0) AS reserved,"
    " coalesce(max(number), 0) AS last_number, count(*) FILTER (WHERE wrong) AS wrong FROM (SELECT *,"
    " balance_after <> sum(credits) OVER w OR reserved_after <> sum(reserved_delta) OVER w AS wrong FROM ledger_entry"
    " WHERE organization_id = %(home)s WINDOW w AS (ORDER BY number)) entry"
)


@pytest.fixture(scope="module")
def ledger_database(cluster, template):
    dsn = cluster.create_database(template[0])
    yield dsn
    cluster.drop_database(dsn)


class LedgerMachine(RuleBasedStateMachine):
    """One wallet, whoever moves it; subclasses for tests of the test break one movement each."""

    dsn: str

    holds = Bundle("holds")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.conn = self.wait(psycopg.AsyncConnection.connect(self.dsn, **connection_arguments()))
        self.home, self.other = (self.wait(self.new_wallet()) for _ in range(2))
        self.balance = 0
        self.model: dict[str, dict[str, int]] = {}
        self.entries = 0
        self.posted: list[Posting] = []

    def wait(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def new_wallet(self) -> str:
        async with self.conn.transaction():
            made = await create_organization(self.conn, name=f"Wallet {new_id()}", owner_id=None, at=now())
        return made.organization["id"]

    def cause(self, organization_id: str | None = None) -> Cause:
        return Cause(organization_id=organization_id or self.home, invocation_id=new_id(), at=now())

    def post(self, posting: Posting, *, organization_id: str | None = None):
        async def inside():
            async with self.conn.transaction():
                return await postings.post(self.conn, self.cause(organization_id), posting)

        return self.wait(inside())

    def note(self, posting: Posting) -> None:
        self.entries += 1
        self.posted.append(posting)

    async def hold_for(self, order_id: str, credits_held: int) -> str:
        return (await postings.reserve(self.conn, self.cause(), order_id=order_id, credits_held=credits_held))["hold_id"]

    async def settle(self, hold: dict, credits_settled: int) -> None:
        await postings.settle(
            self.conn,
            self.cause(),
            hold_id=hold["id"],
            order_id=hold["order_id"],
            credits_settled=credits_settled,
            external_ref=new_id(),
        )

    async def release(self, hold: dict) -> int:
        return await postings.release_rest(self.conn, self.cause(), order_id=hold["order_id"])

    def in_transaction(self, movement):
        async def inside():
            async with self.conn.transaction():
                return await movement()

        return self.wait(inside())

    @rule(amount=AMOUNTS, reason=st.sampled_from(["operator_grant", "topup", "monthly_grant", "refund"]))
    def credit(self, amount, reason):
        posting = Posting(reason=reason, credits=amount, external_ref=new_id())
        entry = self.post(posting)
        self.balance += amount
        self.note(posting)
        assert (entry["balance_after"], entry["number"]) == (self.balance, self.entries)

    def cover(self, amount: int) -> None:
        """Makes sure that the balance is not what an amount is refused for."""
        if self.balance < amount:
            self.credit(amount=amount - self.balance, reason="operator_grant")

    @rule(amount=st.integers(-500, 500).filter(bool))
    def correct(self, amount):
        posting = Posting(reason="correction", credits=amount, external_ref=new_id())
        self.post(posting)
        self.balance += amount
        self.note(posting)

    @rule(amount=AMOUNTS, reason=st.sampled_from(["plan_fee", "storage_overage", "charge_adjustment"]))
    def debit(self, amount, reason):
        posting = Posting(reason=reason, credits=-amount, external_ref=new_id())
        if amount > self.balance:
            refused(PaymentRequired, lambda: self.post(posting))
            return
        self.post(posting)
        self.balance -= amount
        self.note(posting)

    @precondition(lambda self: self.balance > 0)
    @rule(target=holds, share=st.integers(1, 100))
    def hold(self, share):
        amount = max(1, self.balance * share // 100)
        order_id = new_id()
        hold_id = self.in_transaction(lambda: self.hold_for(order_id, amount))
        self.balance -= amount
        self.entries += 1
        self.model[hold_id] = {"reserved": amount, "settled": 0, "released": 0}
        return {"id": hold_id, "order_id": order_id}

    @rule(extra=AMOUNTS)
    def hold_too_much(self, extra):
        amount = max(self.balance, 0) + extra
        refused(PaymentRequired, lambda: self.in_transaction(lambda: self.hold_for(new_id(), amount)))

    @rule(hold=holds)
    def hold_the_same_order_again(self, hold):
        self.cover(1)
        refused(REFUSED, lambda: self.in_transaction(lambda: self.hold_for(hold["order_id"], 1)))

    @rule(hold=holds, share=st.integers(0, 120))
    def settle_some(self, hold, share):
        figures = self.model[hold["id"]]
        amount = remaining(figures) * share // 100 + (share > 100)
        if amount > remaining(figures):
            refused(REFUSED, lambda: self.in_transaction(lambda: self.settle(hold, amount)))
            return
        self.in_transaction(lambda: self.settle(hold, amount))
        figures["settled"] += amount
        self.entries += amount > 0

    @rule(hold=holds)
    def close(self, hold):
        figures = self.model[hold["id"]]
        expected = remaining(figures)
        assert self.in_transaction(lambda: self.release(hold)) == expected
        figures["released"] += expected
        self.balance += expected
        self.entries += expected > 0

    @rule(hold=holds, amount=AMOUNTS)
    def fail_half_way(self, hold, amount):
        """A call that settles, releases and then breaks leaves nothing of all that."""

        async def movement():
            await postings.post(self.conn, self.cause(), Posting(reason="topup", credits=amount, external_ref=new_id()))
            await self.settle(hold, min(amount, remaining(self.model[hold["id"]])))
            await self.release(hold)
            raise LookupError

        refused(LookupError, lambda: self.in_transaction(movement))

    @precondition(lambda self: self.posted)
    @rule(data=st.data())
    def repeat(self, data):
        """The same thing is never posted twice; one that is not covered any more is refused for that already."""
        posting = data.draw(st.sampled_from(self.posted))
        refused((psycopg.errors.UniqueViolation, PaymentRequired), lambda: self.post(posting))

    @rule(amount=AMOUNTS, hold=holds)
    def touch_the_hold_of_others(self, amount, hold):
        posting = Posting(reason="settle", credits=0, reserved_delta=-amount, hold_id=hold["id"], external_ref=new_id())
        refused(REFUSED, lambda: self.post(posting, organization_id=self.other))

    @rule(
        posting=st.sampled_from(
            [
                Posting(reason="topup", credits=-5, external_ref="x"),
                Posting(reason="topup", credits=0, external_ref="x"),
                Posting(reason="theft", credits=5, external_ref="x"),
                Posting(reason="settle", credits=0, reserved_delta=-5, external_ref="x"),
                Posting(reason="topup", credits=5, reserved_delta=5, external_ref="x"),
                Posting(reason="topup", credits=5, hold_id=new_id(), external_ref="x"),
            ]
        )
    )
    def post_what_cannot_be(self, posting):
        refused((*REFUSED, PaymentRequired), lambda: self.post(posting))

    @rule(hold=holds, amount=AMOUNTS)
    def post_an_uneven_reservation(self, hold, amount):
        self.cover(amount)
        posting = Posting(
            reason="reserve", credits=-amount, reserved_delta=amount + 1, hold_id=hold["id"], external_ref=new_id()
        )
        refused(REFUSED, lambda: self.post(posting))

    @precondition(lambda self: self.entries and self.model)
    @rule(attack=st.sampled_from(ATTACKS))
    def attack(self, attack):
        async def inside():
            async with self.conn.transaction():
                await self.conn.execute(attack, {"home": self.home})

        refused(REFUSED, lambda: self.wait(inside()))

    @invariant()
    def figures_are_those_of_the_model(self):
        account = self.wait(balance_of(self.conn, self.home))
        held = sum(remaining(figures) for figures in self.model.values())
        assert account == {"balance": self.balance, "reserved": held, "entry_count": self.entries}

    @invariant()
    def entries_add_up(self):
        sums = self.wait(self.one(SUMS))
        held = sum(remaining(figures) for figures in self.model.values())
        assert sums == {
            "entries": self.entries, "credits": self.balance, "reserved": held, "last_number": self.entries, "wrong": 0,
        }  # fmt: skip

    @invariant()
    def holds_are_those_of_the_model(self):
        rows = self.wait(self.all("SELECT * FROM ledger_hold WHERE organization_id = %(home)s"))
        found = {row["id"]: {name: row[name] for name in ("reserved", "settled", "released")} for row in rows}
        assert found == self.model
        assert all(row["remaining"] == remaining(found[row["id"]]) >= 0 for row in rows)

    @invariant()
    def the_other_wallet_is_untouched(self):
        assert self.wait(balance_of(self.conn, self.other)) == {"balance": 0, "reserved": 0, "entry_count": 0}

    async def all(self, query: str) -> list[dict]:
        return await (await self.conn.execute(query, {"home": self.home})).fetchall()

    async def one(self, query: str) -> dict:
        return (await self.all(query))[0]

    def teardown(self):
        self.wait(self.conn.close())
        self.loop.close()


def remaining(figures: dict[str, int]) -> int:
    return figures["reserved"] - figures["settled"] - figures["released"]


def refused(errors, attempt) -> None:
    """Asserts that the attempt is refused with one of the errors; anything else it raises is a finding."""
    try:
        attempt()
    except errors:
        return
    raise AssertionError("this should have been refused")


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(machine: type[LedgerMachine], dsn: str, **more) -> None:
    machine = type(machine.__name__, (machine,), {"dsn": dsn})
    chosen = {"max_examples": 40, "stateful_step_count": 40, "deadline": None, "suppress_health_check": QUIET, **more}
    run_state_machine_as_test(machine, settings=settings(database=None, print_blob=False, **chosen))


def test_any_movements_leave_the_figures_they_should(ledger_database):
    run(LedgerMachine, ledger_database)


class ReleasesTooLittle(LedgerMachine):
    async def release(self, hold: dict) -> int:
        found = await postings.hold_of(self.conn, self.home, order_id=hold["order_id"])
        if found["remaining"] > 1:
            await postings.settle(
                self.conn, self.cause(), hold_id=hold["id"], order_id=hold["order_id"], credits_settled=1, external_ref=new_id()
            )
        await postings.release_rest(self.conn, self.cause(), order_id=hold["order_id"])
        return found["remaining"]


class ForgetsToSettle(LedgerMachine):
    async def settle(self, hold: dict, credits_settled: int) -> None:
        if credits_settled > remaining(self.model[hold["id"]]):
            await super().settle(hold, credits_settled)


class SettlesTwice(LedgerMachine):
    async def settle(self, hold: dict, credits_settled: int) -> None:
        await super().settle(hold, credits_settled)
        if credits_settled and credits_settled * 2 <= remaining(self.model[hold["id"]]):
            await super().settle(hold, credits_settled)


class GrantsOnTheWay(LedgerMachine):
    async def hold_for(self, order_id: str, credits_held: int) -> str:
        grant = Posting(reason="operator_grant", credits=credits_held, external_ref=new_id())
        await postings.post(self.conn, self.cause(), grant)
        return await super().hold_for(order_id, credits_held)


class WithoutGuards(LedgerMachine):
    """The database as it would be without its triggers."""

    def __init__(self) -> None:
        super().__init__()
        self.wait(self.conn.execute("SET session_replication_role = 'replica'"))


@pytest.mark.parametrize("broken", [ReleasesTooLittle, ForgetsToSettle, SettlesTwice, GrantsOnTheWay, WithoutGuards])
def test_a_broken_movement_is_caught(broken, ledger_database):
    with pytest.raises(AssertionError):
        run(broken, ledger_database, phases=[Phase.generate], max_examples=1_000)


async def test_concurrent_holds_never_overdraw(ledger_database):
    pool = make_pool(ledger_database, min_size=8, max_size=8)
    await pool.open(wait=True)
    try:
        async with pool.connection() as conn, conn.transaction():
            made = await create_organization(conn, name="Crowd", owner_id=None, at=now())
            cause = Cause(organization_id=made.organization["id"], invocation_id=new_id(), at=now())
            await postings.post(conn, cause, Posting(reason="topup", credits=100, external_ref=new_id()))

        async def attempt() -> int:
            try:
                async with pool.connection() as conn, conn.transaction():
                    await postings.reserve(conn, cause, order_id=new_id(), credits_held=7)
            except PaymentRequired:
                return 0
            return 1

        assert sum(await asyncio.gather(*(attempt() for _ in range(40)))) == 100 // 7
        async with pool.connection() as conn:
            account = await balance_of(conn, cause.organization_id)
        assert (account["balance"], account["reserved"]) == (100 % 7, 100 - 100 % 7)
    finally:
        await pool.close()
