"""What a wallet, its cards and its budgets should do, in plain Python: no database, no processor, nothing of the code's own.

A refusal is a pair of status and code; None means that a call goes through.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Refusal = tuple[int, str]

SMALLEST_TOPUP = 500
SMALLEST_CHARGE = 50
THRESHOLD = 6_000

NO_CARD = (402, "no_payment_method")
DECLINED = (402, "card_declined")
ASK_THE_HOLDER = (402, "payment_authentication_required")
NO_ANSWER = (503, "upstream_timeout")
NOT_TOLD = (502, "upstream_error")
NOT_ENOUGH = (402, "insufficient_credits")
NEEDS_APPROVAL = (402, "approval_required")
OVER_BUDGET = (402, "budget_exceeded")
OTHER_REQUEST = (409, "idempotency_mismatch")
TOO_LITTLE = (422, "invalid_input")

ANSWERS = {
    "pm_card_visa": "succeeded",
    "pm_test_lostReply": "succeeded",
    "pm_card_chargeDeclined": "failed",
    "pm_card_authenticationRequired": "requires_action",
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": "requires_action",
    "pm_test_processing": "processing",
    "pm_test_down": "requires_confirmation",
}
OPEN = ("created", "confirming", "requires_action")
OURS = {"requires_confirmation": "confirming", "processing": "confirming"}


@dataclass
class Charge:
    """One attempt at a charge: how far we know it, and how the processor has it."""

    purpose: tuple[str, str]
    credits: int
    card: str
    claim: int = 0
    ours: str = "created"
    theirs: str | None = None
    granted: bool = False
    reversed_theirs: int = 0
    reversed_ours: int = 0

    @property
    def open(self) -> bool:
        return self.ours in OPEN

    @property
    def waits(self) -> bool:
        return self.theirs in {"requires_action", "processing"}

    @property
    def claims(self) -> bool:
        return self.ours in {"created", "confirming"} or (self.ours == "succeeded" and not self.granted)


@dataclass
class Held:
    """What an order was paid with."""

    project: str | None
    reserved: int
    settled: int = 0
    released: int = 0

    @property
    def remaining(self) -> int:
        return self.reserved - self.settled - self.released


@dataclass
class Budget:
    """A cap on all spends, or on those of a project."""

    project: str | None
    limit: int
    mode: str = "block"
    active: bool = True

    @property
    def stops(self) -> bool:
        return self.active and self.mode == "block"


@dataclass
class Money:
    """One organization's."""

    balance: int = 0
    card: str | None = None
    down: bool = False
    charges: list[Charge] = field(default_factory=list)
    holds: dict[str, Held] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)
    answered: dict[tuple[str, str], object] = field(default_factory=dict)

    @property
    def reserved(self) -> int:
        return sum(held.remaining for held in self.holds.values())

    def used(self, budget: Budget) -> int:
        """What counts for a budget: what was reserved and not given back."""
        spends = [held for held in self.holds.values() if budget.project in (None, held.project)]
        return sum(held.reserved - held.released for held in spends)

    def fits(self, project: str | None, credits_needed: int) -> bool:
        """Whether every budget that stops this spend has room for it."""
        binding = [budget for budget in self.budgets.values() if budget.stops and budget.project in (None, project)]
        return all(self.used(budget) + credits_needed <= budget.limit for budget in binding)

    def topup(self, key: str, credits_wanted: int) -> Refusal | None:
        purpose = ("topup", key)
        if purpose in self.answered:
            return None if self.answered[purpose] == credits_wanted else OTHER_REQUEST
        if not SMALLEST_TOPUP <= credits_wanted <= THRESHOLD:
            return TOO_LITTLE if credits_wanted < SMALLEST_TOPUP else NEEDS_APPROVAL
        latest = next((charge for charge in reversed(self.charges) if charge.purpose == purpose), None)
        if latest is not None and latest.ours in {"failed", "canceled"}:
            latest = None
        if latest is not None and latest.credits != credits_wanted:
            return OTHER_REQUEST
        if latest is None or latest.open:
            if latest is None and self.card is None:
                return NO_CARD
            latest = latest or self.begin(purpose, credits_wanted)
            if refusal := self.carry_out(latest):
                return refusal
        self.grant(latest)
        self.answered[purpose] = credits_wanted
        return None

    def spend(self, key: str, order_id: str, project: str | None, credits_needed: int) -> Refusal | None:
        purpose, asked = ("spend", key), (order_id, project, credits_needed)
        if purpose in self.answered:
            return None if self.answered[purpose] == asked else OTHER_REQUEST
        mine = [charge for charge in self.charges if charge.purpose == purpose]
        for charge in mine:
            if charge.ours == "requires_action" and self.balance >= credits_needed:
                if self.down:
                    return NO_ANSWER
                charge.theirs = charge.ours = "succeeded" if charge.theirs == "succeeded" else "canceled"
            elif charge.open and (refusal := self.carry_out(charge)):
                return refusal
        bought = [charge for charge in mine if charge.ours == "succeeded"]
        arriving = sum(charge.credits for charge in bought if not charge.granted)
        if not self.fits(project, credits_needed):
            return OVER_BUDGET
        if self.balance + arriving < credits_needed:
            charge, refusal = self.cover(purpose, credits_needed, arriving)
            if charge is None:
                return refusal
            bought.append(charge)
        for charge in bought:
            self.grant(charge)
        self.balance -= credits_needed
        self.holds[order_id] = Held(project, credits_needed)
        self.answered[purpose] = asked
        return None

    def cover(self, purpose: tuple[str, str], credits_needed: int, arriving: int) -> tuple[Charge | None, Refusal | None]:
        """Charges what is missing, and counts on nothing that another spend's charge was sized by; debts are paid first."""
        claimed = sum(charge.claim for charge in self.charges if charge.purpose != purpose and charge.claims)
        available = max(min(self.balance, 0), self.balance - claimed) + arriving
        missing = credits_needed - available
        if self.card is None:
            return None, NOT_ENOUGH
        if missing > THRESHOLD:
            return None, NEEDS_APPROVAL
        charge = self.begin(purpose, max(missing, SMALLEST_CHARGE), claim=max(0, available))
        refusal = self.carry_out(charge)
        return (None, refusal) if refusal else (charge, None)

    def begin(self, purpose: tuple[str, str], credits_wanted: int, claim: int = 0) -> Charge:
        assert self.card is not None
        charge = Charge(purpose, credits_wanted, self.card, claim)
        self.charges.append(charge)
        return charge

    def carry_out(self, charge: Charge) -> Refusal | None:
        if self.down:
            return NO_ANSWER
        if charge.theirs in {None, "requires_confirmation"}:
            charge.theirs = ANSWERS[charge.card]
        self.record(charge)
        refusals = {"failed": DECLINED, "canceled": DECLINED, "requires_action": ASK_THE_HOLDER, "confirming": NO_ANSWER}
        return refusals.get(charge.ours)

    def record(self, charge: Charge) -> None:
        if charge.open and charge.theirs is not None:
            charge.ours = OURS.get(charge.theirs, charge.theirs)

    def grant(self, charge: Charge) -> None:
        if not charge.granted:
            charge.granted = True
            self.balance += charge.credits

    def decide(self, charge: Charge, *, succeeds: bool) -> None:
        """The bank answers; we do not hear of it by that."""
        declines = "InsufficientFunds" in charge.card
        charge.theirs = "succeeded" if succeeds and not declines else "failed"

    def look(self, charge: Charge, *, much_later: bool = False) -> Refusal | None:
        """The processor is asked what became of a charge."""
        if charge.theirs is None:
            charge.ours = "canceled" if charge.open else charge.ours
            return None
        if self.down:
            return NOT_TOLD
        if charge.open and much_later and charge.theirs in {"requires_confirmation", "requires_action"}:
            charge.theirs = "canceled"
        self.record(charge)
        if charge.ours == "succeeded":
            self.grant(charge)
            self.balance -= charge.reversed_theirs - charge.reversed_ours
            charge.reversed_ours = charge.reversed_theirs
        return None
