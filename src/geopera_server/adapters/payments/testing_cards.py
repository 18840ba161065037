"""The cards of the test processor: Stripe's test cards by Stripe's names, and some that act out trouble on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["succeeded", "failed", "requires_action", "processing", "down", "slow", "lost", "garbage", "unsavable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestCard:
    """How a card looks, and how every off-session charge of it ends.

    `declined_after` is why the bank refuses although the card holder has confirmed.
    """

    __test__ = False

    answer: Answer = "succeeded"
    decline_code: str | None = None
    declined_after: str | None = None
    brand: str = "visa"
    last4: str = "4242"
    exp_month: int = 12
    exp_year: int = 2099


def _declined(code: str, last4: str) -> TestCard:
    return TestCard(answer="failed", decline_code=code, last4=last4)


TEST_CARDS: dict[str, TestCard] = {
    "pm_card_visa": TestCard(),
    "pm_card_mastercard": TestCard(brand="mastercard", last4="4444"),
    "pm_card_amex": TestCard(brand="amex", last4="8431"),
    "pm_card_chargeDeclined": _declined("generic_decline", "0002"),
    "pm_card_chargeDeclinedInsufficientFunds": _declined("insufficient_funds", "9995"),
    "pm_card_chargeDeclinedExpiredCard": _declined("expired_card", "0069"),
    "pm_card_chargeDeclinedProcessingError": _declined("processing_error", "0119"),
    "pm_card_visa_chargeDeclined": _declined("generic_decline", "0002"),
    "pm_card_visa_chargeDeclinedInsufficientFunds": _declined("insufficient_funds", "9995"),
    "pm_card_visa_chargeDeclinedLostCard": _declined("lost_card", "9987"),
    "pm_card_visa_chargeDeclinedStolenCard": _declined("stolen_card", "9979"),
    "pm_card_chargeCustomerFail": _declined("generic_decline", "0341"),
    "pm_card_authenticationRequired": TestCard(answer="requires_action", last4="3184"),
    "pm_card_authenticationRequiredChargeDeclinedInsufficientFunds": TestCard(
        answer="requires_action", declined_after="insufficient_funds", last4="3178"
    ),
    # Not Stripe's: what cannot be asked of a card that behaves.
    "pm_test_expired": TestCard(answer="failed", decline_code="expired_card", exp_month=1, exp_year=2020, last4="0101"),
    "pm_test_processing": TestCard(answer="processing", last4="0102"),
    "pm_test_lostReply": TestCard(answer="lost", last4="0103"),
    "pm_test_garbage": TestCard(answer="garbage", last4="0104"),
    "pm_test_down": TestCard(answer="down", last4="0105"),
    "pm_test_slow": TestCard(answer="slow", last4="0106"),
    "pm_test_unsavable": TestCard(answer="unsavable", decline_code="setup_intent_authentication_failure", last4="0107"),
}
