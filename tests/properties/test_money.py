"""Everything that moves an organization's money against a plain model of it: cards, banks, budgets, notices, repeated calls.

Each step runs real operations through the kernel, over a real PostgreSQL and the test processor, and is refused or not as the
model says. After each step the account, the charges at both sides and the budgets are the model's, and the books add up.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any
from uuid import NAMESPACE_OID, uuid5

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from geopera_server.adapters.payments import practice_of
from geopera_server.domains.identity.bootstrap import create_organization
from geopera_server.domains.payments import charging, funding, outcomes
from geopera_server.domains.payments.operations import resolving
from geopera_server.domains.payments.store import topups
from geopera_server.domains.payments.upkeep import look_after_charges
from geopera_server.kernel.errors import OperationError
from geopera_server.kernel.principal import Principal, service
from geopera_server.ledger import postings
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from support import paying
from support.cards import save_card
from support.house import Caller, Household, inhabited
from support.money_model import ANSWERS, NOT_ENOUGH, THRESHOLD, Budget, Charge, Money

KEYS = st.sampled_from("abcd")
CARDS = st.sampled_from(list(ANSWERS))
SPENDS = st.integers(1, 4_000)
PURCHASES = st.one_of(st.sampled_from([500, 700, 499, THRESHOLD, THRESHOLD + 1]), st.integers(500, 3_000))

ACCOUNT = "SELECT balance, reserved FROM ledger_account WHERE organization_id = %s"
CHARGES = (
    "SELECT state, credits, ledger_entry_id IS NOT NULL AS granted, reversed_credits FROM topup WHERE organization_id = %s"
)
CHARGED = (
    "SELECT i.amount_cents, i.reversed_cents FROM test_processor_intent i JOIN test_processor_customer c ON c.id = i.customer_id"
    " WHERE c.organization_id = %s AND i.status = 'succeeded'"
)
GRANTED = "SELECT credits FROM ledger_entry WHERE organization_id = %s AND reason IN ('topup', 'shortfall_charge')"
USED = (
    "SELECT b.id, coalesce(u.reserved_credits + u.spent_credits, 0) AS used FROM budget b LEFT JOIN budget_use u"
    " ON u.budget_id = b.id WHERE b.organization_id = %s AND b.deleted_at IS NULL"
)
DUE = (
    "UPDATE topup SET look_after = now(), held_until = now() - interval '1 hour', created_at = created_at - interval '25 hours'"
    " WHERE organization_id = %s AND (state IN ('created', 'confirming', 'requires_action')"
    " OR (state = 'succeeded' AND ledger_entry_id IS NULL))"
)


class Home:
    """A house that stays open on a thread with an event loop of its own, for tests that are not asynchronous themselves."""

    def __init__(self, dsn: str, place: Any, folder: Any) -> None:
        self._opening = (dsn, place, folder)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._live()), name="house")

    def __enter__(self) -> Home:
        self._thread.start()
        assert self._ready.wait(30), "the house did not open"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)
        self._thread.join()

    async def _live(self) -> None:
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        async with AsyncExitStack() as stack:
            # Nothing becomes due by itself within a test: time passes when a rule says so.
            house = inhabited(*self._opening, payment_timeout_s=20)
            self.household: Household = await stack.enter_async_context(house)
            self._ready.set()
            await self._ending.wait()

    def wait(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@pytest.fixture(scope="module")
def home(cluster, template, tmp_path_factory):
    dsn = cluster.create_database(template[0])
    with Home(dsn, template[1], tmp_path_factory.mktemp("money")) as opened:
        yield opened
    cluster.drop_database(dsn)


class MoneyMachine(RuleBasedStateMachine):
    """One organization and everybody who moves its money."""

    home: Home

    def __init__(self) -> None:
        super().__init__()
        self.wait, self.household = self.home.wait, self.home.household
        self.house = self.household.house
        self.practice = practice_of(self.house.kernel.ports.processor)
        self.practice.down = False
        self.money = Money()
        self.wait(self.settle_in())

    async def settle_in(self) -> None:
        async with self.house.pool.connection() as conn, conn.transaction():
            made = await create_organization(conn, name=f"Wallet {new_id()}", owner_id=None, at=now())
            self.organization_id, self.project_id = made.organization["id"], made.default_project["id"]
            await conn.execute(
                "UPDATE organization SET settings = settings || jsonb_build_object('approval_threshold_credits', %s::int)"
                " WHERE id = %s",
                (THRESHOLD, self.organization_id),
            )
        self.owner = Principal(
            kind="user",
            id=self.household.place.home.user_id,
            organization_id=self.organization_id,
            organization_role="owner",
            scopes=frozenset({"*:read", "*:write"}),
        )

    def sql(self, query: str) -> list[dict]:
        return self.wait(self.household.sql(query, self.organization_id))

    def outcome(self, coroutine: Coroutine[Any, Any, Any]) -> tuple[int, str] | None:
        """Returns how a call is refused; None when it is not."""
        try:
            self.wait(coroutine)
        except OperationError as error:
            return error.status, error.code
        return None

    def op(self, operation_id: str, given: dict, *, key: str | None = None) -> Coroutine[Any, Any, Any]:
        return Caller(self.house, self.owner).op(operation_id, given, key=key)

    def order_of(self, name: str) -> str:
        return str(uuid5(NAMESPACE_OID, f"{self.organization_id}/{name}"))

    # What the operator and the owner do.

    @rule(credits_given=st.integers(-1_500, 1_500).filter(bool), force=st.booleans())
    def grant(self, credits_given, force):
        given = {"organization_id": self.organization_id, "credits": credits_given, "reason": "Test", "force": force}
        refusal = self.outcome(self.household.operator.op("billing.admin.grant_credits", given, key=new_id()))
        refused = credits_given < 0 and not force and self.money.balance + credits_given < 0
        assert refusal == (NOT_ENOUGH if refused else None)
        self.money.balance += 0 if refused else credits_given

    @initialize(card=st.one_of(st.none(), CARDS))
    def come_with_a_card(self, card):
        if card is not None:
            self.save_a_card(card)

    @precondition(lambda self: not self.money.down)
    @rule(card=CARDS)
    def save_a_card(self, card):
        self.wait(save_card(self.house, self.organization_id, card))
        self.money.card = card

    @rule(key=KEYS, credits_wanted=PURCHASES)
    def topup(self, key, credits_wanted):
        expected = self.money.topup(key, credits_wanted)
        assert self.outcome(self.op("billing.topup", {"credits": credits_wanted}, key=key)) == expected

    @precondition(lambda self: self.money.charges)
    @rule(data=st.data())
    def topup_again(self, data):
        """The same call as before: after a lost answer, a refusal, or the bank's word."""
        tried = [charge for charge in self.money.charges if charge.purpose[0] == "topup"]
        if tried:
            again = chosen(data, tried)
            self.topup(again.purpose[1], again.credits)

    # Spends.

    @rule(name=st.one_of(KEYS, st.none()), in_project=st.booleans(), credits_needed=SPENDS)
    def spend(self, name, in_project, credits_needed):
        key = name or new_id()
        self.spend_for(key, self.project_id if in_project else None, credits_needed, keyed=name is not None)

    def spend_for(self, key: str, project_id: str | None, credits_needed: int, *, keyed: bool) -> None:
        order_id = self.order_of(key)
        foreseen = self.foreseen(project_id, credits_needed)
        allowed = self.wait(self.op("budgets.check", {"credits": credits_needed, "project_id": project_id}))["allowed"]
        assert allowed == foreseen
        expected = self.money.spend(key, order_id, project_id, credits_needed)
        placed = paying.run(
            self.house, self.owner, paying.spend, key=key if keyed else None,
            order_id=order_id, credits=credits_needed, project_id=project_id,
        )  # fmt: skip
        assert self.outcome(placed) == expected
        if expected is None:
            self.budgets_hold(since=project_id)

    def foreseen(self, project_id: str | None, credits_needed: int) -> bool:
        missing = max(0, credits_needed - self.money.balance)
        covered = missing == 0 or (self.money.card is not None and missing <= THRESHOLD)
        return covered and self.money.fits(project_id, credits_needed)

    @precondition(lambda self: any(charge.purpose[0] == "spend" for charge in self.money.charges))
    @rule(data=st.data(), credits_needed=SPENDS)
    def spend_again(self, data, credits_needed):
        keys = {
            charge.purpose[1] for charge in self.money.charges if charge.purpose[0] == "spend" and charge.purpose[1] in "abcd"
        }
        if keys:
            self.spend_for(chosen(data, sorted(keys)), None, credits_needed, keyed=True)

    @precondition(lambda self: self.money.reserved)
    @rule(data=st.data(), share=st.integers(1, 100))
    def settle(self, data, share):
        order_id, held = chosen(data, [(name, held) for name, held in self.money.holds.items() if held.remaining])
        credits_due = max(1, held.remaining * share // 100)
        self.wait(paying.run(self.house, self.owner, paying.settle, order_id=order_id, credits=credits_due))
        held.settled += credits_due

    @precondition(lambda self: self.money.holds)
    @rule(data=st.data())
    def release(self, data):
        order_id, held = chosen(data, list(self.money.holds.items()))
        freed = self.wait(paying.run(self.house, self.owner, paying.release, order_id=order_id))["credits"]
        assert freed == held.remaining
        held.released += freed
        self.money.balance += freed

    @precondition(lambda self: self.money.card in {"pm_card_visa", "pm_test_lostReply"} and not self.money.down)
    @precondition(lambda self: self.money.balance >= 0 and not any(charge.claims for charge in self.money.charges))
    @rule(many=st.integers(2, 5), credits_needed=st.integers(200, 900))
    def spend_at_once(self, many, credits_needed):
        """As many as come together are all paid, each with one charge at most, and no more is charged than they lack."""
        if not self.money.fits(None, many * credits_needed):
            return
        order_ids = [new_id() for _ in range(many)]
        calls = [
            paying.run(self.house, self.owner, paying.spend, order_id=order_id, credits=credits_needed)
            for order_id in order_ids
        ]
        before = Counter(row["credits"] for row in self.sql(CHARGES))
        modes = [reply["mode"] for reply in self.wait(together(calls))]
        made = list((Counter(row["credits"] for row in self.sql(CHARGES)) - before).elements())
        lacking = max(0, many * credits_needed - self.money.balance)
        assert len(made) == modes.count("card"), "a spend was charged for more than once"
        assert lacking <= sum(made) <= lacking + 50 * len(made)
        for credits_charged in made:
            charge = Charge(("spend", new_id()), credits_charged, self.money.card, ours="succeeded", theirs="succeeded")
            self.money.charges.append(charge)
            self.money.grant(charge)
        for order_id in order_ids:
            self.money.spend(order_id, order_id, None, credits_needed)

    @precondition(lambda self: self.money.card == "pm_card_visa" and not self.money.down)
    @rule(many=st.integers(2, 4))
    def topup_at_once(self, many):
        """One key buys once, however many send it together."""
        key = new_id()
        outcomes = self.wait(
            together([self.op("billing.topup", {"credits": 600}, key=key) for _ in range(many)], refusals=True)
        )
        refusals = {(each.status, each.code) for each in outcomes if isinstance(each, OperationError)}
        assert refusals <= {(409, "idempotency_in_progress")}
        assert any(isinstance(each, dict) for each in outcomes)
        assert self.money.topup(key, 600) is None

    # Budgets.

    @rule(in_project=st.booleans(), period=st.sampled_from(["month", "total"]), limit=st.integers(0, 30_000))
    def make_a_budget(self, in_project, period, limit):
        subject = {"subject_type": "project", "subject_id": self.project_id} if in_project else {"subject_type": "organization"}
        given = {**subject, "period": period, "limit_credits": limit}
        name = f"{in_project}/{period}"
        taken = any(each.startswith(name) for each in self.money.budgets)
        if taken:
            assert self.outcome(self.op("budgets.save", given)) == (409, "conflict")
            return
        made = self.wait(self.op("budgets.save", given))
        self.money.budgets[f"{name}/{made['id']}"] = Budget(self.project_id if in_project else None, limit)

    @precondition(lambda self: self.money.budgets)
    @rule(data=st.data(), limit=st.integers(0, 30_000), mode=st.sampled_from(["block", "warn"]), active=st.booleans())
    def change_a_budget(self, data, limit, mode, active):
        name = chosen(data, list(self.money.budgets))
        given = {"id": name.split("/")[-1], "limit_credits": limit, "mode": mode, "active": active}
        self.wait(self.op("budgets.save", given))
        budget = self.money.budgets[name]
        budget.limit, budget.mode, budget.active = limit, mode, active

    @precondition(lambda self: self.money.budgets)
    @rule(data=st.data())
    def delete_a_budget(self, data):
        name = chosen(data, list(self.money.budgets))
        self.wait(self.op("budgets.delete", {"budget_id": name.split("/")[-1]}))
        del self.money.budgets[name]

    def budgets_hold(self, *, since: str | None) -> None:
        used = {row["id"]: row["used"] for row in self.sql(USED)}
        for name, budget in self.money.budgets.items():
            if budget.stops and budget.project in (None, since):
                assert used[name.split("/")[-1]] <= budget.limit

    # What happens at the processor, and who looks there.

    @rule(down=st.sampled_from([False, False, False, True]))
    def switch_the_processor(self, down):
        self.practice.down = self.money.down = down

    @precondition(lambda self: not self.money.down and any(charge.waits for charge in self.money.charges))
    @rule(data=st.data(), succeeds=st.booleans(), told=st.booleans())
    def bank_answers(self, data, succeeds, told):
        waiting = [place for place, charge in enumerate(self.money.charges) if charge.waits]
        charge = self.money.charges[chosen(data, waiting)]
        [secret] = self.wait(self.household.sql("SELECT client_secret FROM topup WHERE id = %s", self.topup_of(charge)))
        self.wait(self.practice.decide(secret["client_secret"], succeeds=succeeds))
        self.money.decide(charge, succeeds=succeeds)
        if told:
            self.look_at(charge)

    @precondition(lambda self: self.money.charges)
    @rule(data=st.data())
    def notice(self, data):
        """The processor sends a notice about some charge, at any time and as often as it likes."""
        self.look_at(self.money.charges[data.draw(st.integers(0, len(self.money.charges) - 1))])

    def look_at(self, charge: Charge) -> None:
        staff = Caller(self.house, service(organization_id=self.organization_id))
        given = {"topup_id": self.topup_of(charge)}
        assert self.outcome(staff.op("billing.payments.resolve", given)) == self.money.look(charge)

    def topup_of(self, charge: Charge) -> str:
        """Returns the id of a charge's row: they are made one after another, except those of one moment, which are alike."""
        alike = [each for each in self.money.charges if each.credits == charge.credits]
        rows = self.wait(
            self.household.sql(
                "SELECT id FROM topup WHERE organization_id = %s AND credits = %s ORDER BY id",
                self.organization_id,
                charge.credits,
            )
        )
        return rows[next(place for place, each in enumerate(alike) if each is charge)]["id"]

    @precondition(lambda self: any(charge.theirs == "succeeded" for charge in self.money.charges) and not self.money.down)
    @rule(data=st.data(), part=st.integers(1, 100), told=st.booleans())
    def processor_takes_back(self, data, part, told):
        paid = [place for place, charge in enumerate(self.money.charges) if charge.theirs == "succeeded"]
        charge = self.money.charges[chosen(data, paid)]
        cents = charge.reversed_theirs + -(-(charge.credits - charge.reversed_theirs) * part // 100)
        [row] = self.wait(self.household.sql("SELECT intent_id FROM topup WHERE id = %s", self.topup_of(charge)))
        self.wait(self.practice.reverse(row["intent_id"], reversed_cents=cents))
        charge.reversed_theirs = cents
        if told:
            self.look_at(charge)

    @rule()
    def a_day_passes(self):
        """The round that looks after charges comes to all that are open."""
        self.sql(DUE)
        self.wait(self.look_after_all())
        for charge in self.money.charges:
            if charge.open or (charge.ours == "succeeded" and not charge.granted):
                self.money.look(charge, much_later=True)

    async def look_after_all(self) -> None:
        while await look_after_charges(self.house.kernel, self.house.registry):
            pass

    # What is true after every step.

    @invariant()
    def rows_are_the_models(self):
        account, charges, charged, granted, used = self.wait(self.figures())
        money = self.money
        assert account == [{"balance": money.balance, "reserved": money.reserved}]
        assert Counter(tuple(row.values()) for row in charges) == Counter(
            (charge.ours, charge.credits, charge.granted, charge.reversed_ours) for charge in money.charges
        )
        paid = [charge for charge in money.charges if charge.theirs == "succeeded"]
        assert Counter(tuple(row.values()) for row in charged) == Counter(
            (charge.credits, charge.reversed_theirs) for charge in paid
        )
        assert Counter(row["credits"] for row in granted) == Counter(charge.credits for charge in paid if charge.granted)
        assert {row["id"]: row["used"] for row in used} == {
            name.split("/")[-1]: money.used(budget) for name, budget in money.budgets.items()
        }

    async def figures(self) -> list[list[dict]]:
        async with self.house.pool.connection() as conn:
            asked = [await conn.execute(query, (self.organization_id,)) for query in (ACCOUNT, CHARGES, CHARGED, GRANTED, USED)]
            return [await answer.fetchall() for answer in asked]

    @invariant()
    def books_add_up(self):
        assert self.wait(paying.differences_in(self.house, self.organization_id)) == []

    def teardown(self):
        """In the end every charge at the processor is credits, once and of the same amount."""
        self.switch_the_processor(down=False)
        for charge in [each for each in self.money.charges if each.waits]:
            self.wait(self.practice.decide(self.secret_of(charge), succeeds=True))
            self.money.decide(charge, succeeds=True)
        self.a_day_passes()
        charged = Counter(row["amount_cents"] for row in self.sql(CHARGED))
        assert charged == Counter(row["credits"] for row in self.sql(GRANTED))

    def secret_of(self, charge: Charge) -> str:
        [row] = self.wait(self.household.sql("SELECT client_secret FROM topup WHERE id = %s", self.topup_of(charge)))
        return row["client_secret"]


def chosen(data: Any, things: list[Any]) -> Any:
    """Draws one of some things by its place, since ids differ each time a test is run again."""
    return things[data.draw(st.integers(0, len(things) - 1))]


async def together(calls: list[Coroutine[Any, Any, Any]], *, refusals: bool = False) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=refusals)


QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def run(machine: type[MoneyMachine], home: Home, **more: Any) -> None:
    machine = type(machine.__name__, (machine,), {"home": home})
    # A step takes milliseconds and shrinking thousands of them: a failure is shown as it was found.
    chosen = {"max_examples": 80, "stateful_step_count": 40, "phases": [Phase.generate], "deadline": None, **more}
    run_state_machine_as_test(
        machine, settings=settings(database=None, print_blob=False, suppress_health_check=QUIET, **chosen)
    )


@pytest.mark.timeout(300)
def test_any_sequence_of_calls_leaves_the_money_where_it_belongs(home):
    run(MoneyMachine, home)


def grants_twice(patch):
    post = postings.post

    async def twice(conn, cause, posting):
        if posting.topup_id is not None and posting.credits > 0:
            await post(conn, cause, replace(posting, external_ref=f"{posting.external_ref}:again"))
        return await post(conn, cause, posting)

    patch.setattr(postings, "post", twice)


def forgets_what_it_bought(patch):
    patch.setattr(funding, "purpose_of_call", lambda ctx: f"{ctx.operation_id}:{ctx.invocation_id}")


def counts_on_what_others_take(patch):
    async def nothing(*_: object) -> int:
        return 0

    patch.setattr(topups, "claimed_by_others", nothing)


def believes_what_it_hopes(patch):
    patch.setitem(outcomes._STATE_OF_STATUS, "processing", "succeeded")


def keeps_what_was_taken_back(patch):
    async def nothing(*_: object) -> None: ...

    patch.setattr(resolving, "_take_back", nothing)


def asks_for_a_charge_with_another_key(patch):
    patch.setattr(charging, "_confirmed", confirms_a_new_intent)


async def confirms_a_new_intent(processor, row, intent):
    another = await processor.charges.create(
        customer_id=row["customer_id"],
        method_id=row["method_id"],
        amount_cents=row["credits"],
        metadata={"topup_id": row["id"]},
        key=new_id(),
    )
    await processor.charges.confirm(another.id, key=new_id())
    return await processor.charges.confirm(intent.id, key=new_id())


SABOTAGES = [
    grants_twice,
    forgets_what_it_bought,
    counts_on_what_others_take,
    believes_what_it_hopes,
    keeps_what_was_taken_back,
    asks_for_a_charge_with_another_key,
]


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_sabotage_is_noticed(home, sabotage, monkeypatch):
    sabotage(monkeypatch)
    with pytest.raises((AssertionError, Flaky)):
        run(MoneyMachine, home, max_examples=500)
