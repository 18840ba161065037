"""Budgets against a plain model: whatever is spent, given back, edited, and whenever, each budget has used what it should.

The model keeps a list of spends and adds them up anew for every budget; the database moves figures along. Every step runs on
a real PostgreSQL through the code's own postings.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule, run_state_machine_as_test

from geopera_server.db.pool import connection_arguments
from geopera_server.domains.budgets import store
from geopera_server.domains.identity.bootstrap import create_organization
from geopera_server.kernel.errors import PaymentRequired
from geopera_server.kernel.pipeline import as_refusal
from geopera_server.ledger import accruals, postings
from geopera_server.ledger.postings import Cause, Posting
from geopera_server.values.ids import new_id

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TURNS = [
    datetime(2023, 12, 31, 23, 59, 59, 999_000, UTC),
    datetime(2024, 1, 31, 13, 59, tzinfo=UTC),
    datetime(2024, 2, 28, 23, 59, 59, tzinfo=UTC),
    datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC),
    datetime(2024, 4, 30, 14, tzinfo=UTC),
    datetime(2025, 2, 28, 23, 59, 59, tzinfo=UTC),
]
STEPS = st.sampled_from(
    [
        timedelta(microseconds=1),
        timedelta(seconds=1),
        timedelta(hours=9),
        timedelta(days=1),
        timedelta(days=28),
        timedelta(days=31),
    ]
)
LATE = st.sampled_from([timedelta(0), timedelta(0), timedelta(seconds=2), timedelta(days=1)])
AMOUNTS = st.integers(1, 60)
LIMITS = st.integers(0, 150)
PERIODS = st.sampled_from(["day", "month", "total"])
THRESHOLDS = st.lists(st.sampled_from([0.25, 0.5, 0.8, 1.0, 1.5]), max_size=3, unique=True)
ATTACKS = (
    "UPDATE budget_use SET spent_credits = 0 WHERE budget_id = %(id)s",
    "INSERT INTO budget_use (budget_id, period_start) VALUES (%(id)s, now())",
    "DELETE FROM budget_use WHERE budget_id = %(id)s",
    "UPDATE budget_share SET reserved_credits = 0 WHERE budget_id = %(id)s",
    "INSERT INTO budget_share (spend_id, budget_id, period_start) VALUES (gen_random_uuid(), %(id)s, now())",
    "DELETE FROM budget_share WHERE budget_id = %(id)s",
    "UPDATE budget SET subject_id = gen_random_uuid(), subject_type = 'user' WHERE id = %(id)s",
    "UPDATE budget SET period = CASE period WHEN 'day' THEN 'month' ELSE 'day' END WHERE id = %(id)s",
    "DELETE FROM budget WHERE id = %(id)s",
    "TRUNCATE budget CASCADE",
)
REFUSED = (psycopg.errors.IntegrityError, psycopg.errors.RaiseException)


@dataclass(frozen=True)
class Spender:
    """Who spends, and into which project."""

    project: str | None
    key: str | None
    user: str | None


@dataclass
class Spend:
    """One order as the model knows it."""

    id: str
    by: Spender
    at: datetime
    made: int
    hold: str | None = None
    reserved: int = 0
    spent: int = 0
    open: bool = True

    @property
    def takes(self) -> int:
        return self.reserved + max(0, self.spent)


@dataclass
class Cap:
    """One budget as the model knows it."""

    id: str
    kind: str
    subject: str
    period: str
    limit: int
    mode: str
    thresholds: list[float]
    at: datetime
    made: int
    active: bool = True
    told: dict[datetime, set[float]] = field(default_factory=dict)

    def start(self, at: datetime) -> datetime:
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        return {"day": day, "month": day.replace(day=1), "total": EPOCH}[self.period]

    def binds(self, by: Spender) -> bool:
        return {
            "organization": True,
            "project": by.project == self.subject,
            "api_key": by.key == self.subject,
            "user": by.key is None and by.user == self.subject,
        }[self.kind]

    def counts(self, spend: Spend) -> bool:
        return self.binds(spend.by) and (spend.made > self.made or self.start(spend.at) >= self.start(self.at))


class BudgetMachine(RuleBasedStateMachine):
    """One organization that spends, and people who cap it."""

    dsn: str

    holds, owed, caps = Bundle("holds"), Bundle("owed"), Bundle("caps")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.conn = self.wait(psycopg.AsyncConnection.connect(self.dsn, **connection_arguments()))
        self.home = self.wait(self.new_organization())
        self.projects, self.keys, self.users = ([new_id(), new_id()] for _ in range(3))
        self.clock = TURNS[0]
        self.steps = 0
        self.spends: dict[str, Spend] = {}
        self.budgets: dict[str, Cap] = {}

    def wait(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    async def new_organization(self) -> str:
        async with self.conn.transaction():
            made = await create_organization(self.conn, name=f"Capped {new_id()}", owner_id=None, at=TURNS[0])
            home = made.organization["id"]
            # It pays both ways: accruals ask how, and postings do not.
            await self.conn.execute("UPDATE organization SET billing_mode = 'enterprise' WHERE id = %s", (home,))
            cause = Cause(organization_id=home, invocation_id=new_id(), at=TURNS[0])
            await postings.post(self.conn, cause, Posting(reason="operator_grant", credits=10**9, external_ref=new_id()))
        return home

    def cause(self, by: Spender | None = None, at: datetime | None = None) -> Cause:
        """Returns the cause of a posting; one that names nobody is a worker's."""
        return Cause(
            organization_id=self.home,
            invocation_id=new_id(),
            at=at or self.clock,
            project_id=None if by is None else by.project,
            api_key_id=None if by is None else by.key,
            principal_id=None if by is None else by.key or by.user,
        )

    def run(self, movement):
        async def inside():
            async with self.conn.transaction():
                return await movement()

        return self.wait(inside())

    def post(self, posting: Posting, by: Spender | None = None, at: datetime | None = None):
        return self.run(lambda: postings.post(self.conn, self.cause(by, at), posting))

    def next_step(self) -> int:
        self.steps += 1
        return self.steps

    def used(self, cap: Cap, start: datetime) -> tuple[int, int]:
        counted = [spend for spend in self.spends.values() if cap.counts(spend) and cap.start(spend.at) == start]
        return sum(spend.reserved for spend in counted), sum(max(0, spend.spent) for spend in counted)

    def room(self, cap: Cap, at: datetime) -> int:
        return cap.limit - sum(self.used(cap, cap.start(at)))

    def take(self, spend: Spend, attempt, *, reserved: int = 0, spent: int = 0) -> bool:
        """Makes a movement that takes room, which has to be refused exactly when some budget has not got it."""
        counting = [cap for cap in self.budgets.values() if cap.counts(spend)]
        more = reserved + max(0, spend.spent + spent) - max(0, spend.spent)
        full = [(self.room(cap, spend.at), cap.id) for cap in counting if cap.active and cap.mode == "block"]
        full = [(room, cap_id) for room, cap_id in sorted(full) if more > max(room, 0)]
        if full:
            error = self.refused(PaymentRequired, attempt)
            assert error.code == "budget_exceeded"
            assert (error.members["remaining"], error.members["budget_id"]) == (max(0, full[0][0]), full[0][1])
            return False
        attempt()
        self.spends[spend.id] = spend
        spend.reserved += reserved
        spend.spent += spent
        for cap in counting:
            self.tell(cap, cap.start(spend.at))
        return True

    def tell(self, cap: Cap, start: datetime) -> None:
        used = sum(self.used(cap, start))
        if cap.active and used > 0:
            reached = {threshold for threshold in cap.thresholds if used >= threshold * cap.limit}
            cap.told.setdefault(start, set()).update(reached)

    def refused(self, errors, attempt):
        try:
            attempt()
        except errors as error:
            return error
        raise AssertionError("this should have been refused")

    def spender(self, draw: int) -> Spender:
        project = [*self.projects, None][draw % 3]
        key = [None, *self.keys][draw // 3 % 3]
        return Spender(project, key, None if key else self.users[draw // 9 % 2])

    @rule(step=STEPS)
    def time_passes(self, step):
        self.clock += step

    @rule(turn=st.sampled_from(TURNS))
    def a_border_comes(self, turn):
        self.clock = max(self.clock, turn)

    @rule(target=holds, who=st.integers(0, 17), amount=AMOUNTS, late=LATE, to_the_last=st.booleans())
    def hold(self, who, amount, late, to_the_last):
        by, at = self.spender(who), self.clock - late
        spend = Spend(new_id(), by, at, self.next_step())
        rooms = [self.room(cap, at) for cap in self.budgets.values() if cap.binds(by) and self.room(cap, at) > 0]
        amount = min(rooms, default=amount) if to_the_last else amount

        async def movement():
            entry = await postings.reserve(self.conn, self.cause(by, at), credits_held=amount, order_id=spend.id)
            spend.hold = entry["hold_id"]

        self.take(spend, lambda: self.run(movement), reserved=amount)
        return spend

    @rule(spend=holds, amount=AMOUNTS)
    def raise_the_hold(self, spend, amount):
        """An operator reserves more: it counts for whoever made the order, when it was made."""
        if spend.id not in self.spends:
            return
        posting = Posting(
            reason="reserve", credits=-amount, reserved_delta=amount, hold_id=spend.hold, order_id=spend.id,
            external_ref=new_id(),
        )  # fmt: skip
        self.take(spend, lambda: self.post(posting), reserved=amount)

    @rule(spend=holds, part=st.integers(1, 100))
    def settle(self, spend, part):
        amount = spend.reserved * part // 100
        if not amount:
            return
        self.run(
            lambda: postings.settle(
                self.conn,
                self.cause(),
                hold_id=spend.hold,
                order_id=spend.id,
                credits_settled=amount,
                external_ref=new_id(),
            )
        )
        spend.reserved -= amount
        spend.spent += amount

    @rule(spend=holds, part=st.integers(1, 100))
    def release(self, spend, part):
        amount = spend.reserved * part // 100
        if amount:
            posting = Posting(
                reason="release", credits=amount, reserved_delta=-amount, hold_id=spend.hold, external_ref=new_id()
            )
            self.post(posting)
            spend.reserved -= amount

    @rule(spend=holds, amount=AMOUNTS)
    def charge_more(self, spend, amount):
        if spend.id in self.spends:
            posting = Posting(reason="charge_adjustment", credits=-amount, order_id=spend.id, external_ref=new_id())
            self.take(spend, lambda: self.post(posting), spent=amount)

    @rule(spend=holds, amount=AMOUNTS)
    def refund(self, spend, amount):
        self.post(Posting(reason="refund", credits=amount, order_id=spend.id, external_ref=new_id()))
        if spend.id in self.spends:
            spend.spent -= amount

    @rule(who=st.integers(0, 17), amount=AMOUNTS)
    def charge_alone(self, who, amount):
        by = self.spender(who)
        spend = Spend(new_id(), by, self.clock, self.next_step())
        posting = Posting(reason="charge_adjustment", credits=-amount, order_id=spend.id, external_ref=new_id())
        self.take(spend, lambda: self.post(posting, by), spent=amount)

    @rule(reason=st.sampled_from(["plan_fee", "storage_overage", "correction", "share_tiles"]), amount=AMOUNTS)
    def pay_a_fee(self, reason, amount):
        """Fees are no spend: no budget hears of them."""
        self.post(Posting(reason=reason, credits=-amount, external_ref=new_id()), self.spender(0))

    @rule(target=owed, who=st.integers(0, 17), amount=st.integers(0, 60), late=LATE)
    def accrue(self, who, amount, late):
        by, at = self.spender(who), self.clock - late
        spend = Spend(new_id(), by, at, self.next_step())

        async def movement():
            try:
                await accruals.accrue(self.conn, self.cause(by, at), credits_accrued=amount, order_id=spend.id)
            except psycopg.Error as error:
                raise as_refusal(error) from error

        self.take(spend, lambda: self.run(movement), reserved=amount)
        return spend

    @rule(spend=consumes(owed), due=st.integers(0, 100))
    def bill(self, spend, due):
        credits_due = spend.reserved * due // 100
        self.run(
            lambda: accruals.make_billable(self.conn, self.home, at=self.clock, order_id=spend.id, credits_due=credits_due)
        )
        spend.reserved, spend.spent = 0, credits_due

    @rule(spend=consumes(owed))
    def reverse(self, spend):
        self.run(lambda: accruals.reverse(self.conn, self.home, at=self.clock, order_id=spend.id))
        spend.reserved = spend.spent = 0

    @rule(
        target=caps,
        kind=st.sampled_from(["organization", "project", "api_key", "user"]),
        which=st.integers(0, 1),
        period=PERIODS,
        limit=LIMITS,
        mode=st.sampled_from(["block", "block", "warn"]),
        thresholds=THRESHOLDS,
    )
    def cap(self, kind, which, period, limit, mode, thresholds):
        """A new budget counts what its running period has used before it was made."""
        subject = {"project": self.projects, "api_key": self.keys, "user": self.users}.get(kind, [self.home] * 2)[which]
        cap = Cap(new_id(), kind, subject, period, limit, mode, thresholds, self.clock, self.next_step())
        taken = any((one.kind, one.subject, one.period) == (kind, subject, period) for one in self.budgets.values())
        if taken:
            self.refused(psycopg.errors.UniqueViolation, lambda: self.insert(cap))
            return cap
        self.insert(cap)
        self.budgets[cap.id] = cap
        self.tell(cap, cap.start(self.clock))
        return cap

    def insert(self, cap: Cap) -> None:
        row = {
            "id": cap.id, "organization": self.home, "subject_type": cap.kind, "subject_id": cap.subject,
            "created_by": None, **self.terms(cap), "period": cap.period,
        }  # fmt: skip
        self.run(lambda: store.insert_budget(self.conn, row))

    def terms(self, cap: Cap) -> dict:
        return {
            "limit_credits": cap.limit, "mode": cap.mode, "alert_thresholds": [str(each) for each in cap.thresholds],
            "active": cap.active, "at": self.clock, "invocation_id": new_id(),
        }  # fmt: skip

    @rule(cap=caps, limit=LIMITS, mode=st.sampled_from(["block", "warn"]), active=st.booleans(), thresholds=THRESHOLDS)
    def edit(self, cap, limit, mode, active, thresholds):
        if cap.id not in self.budgets:
            return
        cap.limit, cap.mode, cap.active, cap.thresholds = limit, mode, active, thresholds
        self.run(lambda: store.change_budget(self.conn, {"organization": self.home, "id": cap.id, **self.terms(cap)}))
        start = cap.start(self.clock)
        used = sum(self.used(cap, start))
        cap.told[start] = {threshold for threshold in cap.told.get(start, set()) if used >= threshold * limit}
        self.tell(cap, start)

    @rule(cap=caps)
    def uncap(self, cap):
        if self.budgets.pop(cap.id, None):
            ended = {"at": self.clock, "invocation_id": new_id()}
            assert self.run(lambda: store.delete_budget(self.conn, self.home, cap.id, **ended))

    @rule(cap=caps, attack=st.sampled_from(ATTACKS))
    def attack(self, cap, attack):
        """Figures move with the ledger alone; an attack that finds no row changes nothing either."""

        async def movement():
            changed = await self.conn.execute(attack, {"id": cap.id})
            if changed.rowcount == 0:
                raise psycopg.errors.RaiseException

        self.refused(REFUSED, lambda: self.run(movement))

    @invariant()
    def each_budget_has_used_what_it_should(self):
        found = self.rows(
            "SELECT u.*, b.period FROM budget_use u JOIN budget b ON b.id = u.budget_id"
            " WHERE b.organization_id = %s AND b.deleted_at IS NULL"
        )
        use = {(row["budget_id"], row["period_start"]): (row["reserved_credits"], row["spent_credits"]) for row in found}
        starts = {(cap.id, cap.start(spend.at)) for cap in self.budgets.values() for spend in self.spends.values()}
        for cap_id, start in starts | use.keys():
            assert use.get((cap_id, start), (0, 0)) == self.used(self.budgets[cap_id], start)

    @invariant()
    def each_threshold_is_told_once(self):
        found = self.rows(
            "SELECT a.* FROM budget_alert a JOIN budget b ON b.id = a.budget_id"
            " WHERE b.organization_id = %s AND b.deleted_at IS NULL"
        )
        told = sorted((row["budget_id"], row["period_start"], float(row["threshold"])) for row in found)
        assert told == sorted(
            (cap.id, start, each) for cap in self.budgets.values() for start, reached in cap.told.items() for each in reached
        )

    @rule(who=st.integers(0, 17))
    def ask_for_room(self, who):
        by = self.spender(who)
        found = self.wait(
            store.tightest(
                self.conn, self.home, project_id=by.project, api_key_id=by.key, principal_id=by.key or by.user, at=self.clock
            )
        )
        binding = [cap for cap in self.budgets.values() if cap.active and cap.mode == "block" and cap.binds(by)]
        expected = min(((self.room(cap, self.clock), cap.id) for cap in binding), default=None)
        assert (None if found is None else (found["room"], found["id"])) == expected

    def rows(self, query: str) -> list[dict]:
        async def ask():
            return await (await self.conn.execute(query, (self.home,))).fetchall()

        return self.wait(ask())

    def teardown(self):
        self.wait(self.conn.close())
        self.loop.close()


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(dsn: str, **more) -> None:
    machine = type("Machine", (BudgetMachine,), {"dsn": dsn})
    chosen = {"max_examples": 100, "stateful_step_count": 50, "deadline": None, "suppress_health_check": QUIET, **more}
    run_state_machine_as_test(machine, settings=settings(database=None, print_blob=False, report_multiple_bugs=False, **chosen))


def test_any_spending_leaves_budgets_as_they_should_be(database):
    run(database)


# Each is the database with one rule of a budget broken.
BROKEN = {
    "a day begins at midnight in Sydney": ("budget_period_start(text,timestamptz)", "'UTC'", "'Australia/Sydney'"),
    "a raise counts for nobody": ("budgets_follow_entry(ledger_entry)", "entry.reserved_delta,", "least(0, 0),"),
    "the last credit is refused": ("budgets_move", "> b.limit_credits", ">= b.limit_credits"),
    "a refund gives more than was taken": ("budgets_move", "greatest(s.spent_credits, 0)", "s.spent_credits"),
    "a new budget forgets what is settled": ("budget_opens()", "WHEN 'settle' THEN -e.reserved_delta", ""),
    "a key's budget stops its maker too": ("budget_binds", "subject_id = principal AND api_key IS NULL", "true"),
}


@pytest.mark.parametrize("rule_broken", BROKEN)
def test_a_broken_rule_is_caught(rule_broken, database):
    name, was, becomes = BROKEN[rule_broken]
    with psycopg.connect(database, autocommit=True) as conn:
        found = conn.execute(
            "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = %s", (name.partition("(")[0],)
        ).fetchone()
        assert found is not None
        assert was in found[0]
        conn.execute(found[0].replace(was, becomes))
    with pytest.raises((AssertionError, PaymentRequired, psycopg.Error)):
        run(database, phases=[Phase.generate], max_examples=1_000)
