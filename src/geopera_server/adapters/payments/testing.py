"""A card processor to try the platform with: no money moves, and everything that happens to charges can be had on request."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from geopera_server.adapters.payments import testing_store as store
from geopera_server.adapters.payments.signing import signature_of
from geopera_server.adapters.payments.testing_cards import TEST_CARDS, TestCard
from geopera_server.db.pool import Connection, Row
from geopera_server.ports import Connect
from geopera_server.ports.payments import (
    Card,
    CardRefused,
    Intent,
    NoSuchObject,
    ProcessorError,
    ProcessorInvoice,
    ProcessorUnreachable,
    Setup,
)
from geopera_server.values.clock import now
from geopera_server.values.encoding import canonical, dumps
from geopera_server.values.ids import new_id

_ENDED = {"succeeded": "payment_intent.succeeded", "failed": "payment_intent.payment_failed"}
_REFUSALS = {
    "insufficient_funds": "Your card has insufficient funds.",
    "expired_card": "Your card has expired.",
    "payment_intent_authentication_failure": "The card holder did not pass the bank's check.",
}


class PracticeProcessor:
    """Cards and charges that live in tables of their own, shared by all processes and kept over crashes.

    While `down` is set, nothing answers.
    """

    def __init__(self, connect: Connect, notice_secret: bytes, *, timeout_s: float) -> None:
        self._connect = connect
        self._notice_secret = notice_secret
        self._timeout_s = timeout_s
        self.down = False

    async def create_customer(self, *, organization_id: str, name: str, email: str | None, key: str) -> str:
        """Returns the id of a new customer; the same key makes one customer."""
        asked = {"organization_id": organization_id, "name": name, "email": email}
        async with self._atomically() as conn:
            customer_id = await self._made(conn, "cus_test", key, asked)
            await store.add_customer(
                conn, customer_id=customer_id, organization_id=organization_id, name=name, email=email, at=now()
            )
        return customer_id

    async def create_setup(self, customer_id: str, *, key: str) -> Setup:
        """Asks for consent to charge a card of this customer later."""
        async with self._atomically() as conn:
            await _require_customer(conn, customer_id)
            setup_id = await self._made(conn, "seti_test", key, {"setup_of": customer_id})
            await store.add_setup(
                conn, setup_id=setup_id, customer_id=customer_id, client_secret=_client_secret(setup_id), at=now()
            )
            row = await store.setup_by_id(conn, setup_id)
        assert row is not None
        return Setup(id=row["id"], client_secret=row["client_secret"])

    async def card(self, method_id: str) -> Card:
        """Returns a card as it is now; the names of test cards are cards that belong to nobody."""
        async with self._connection() as conn:
            row = await store.card_by_id(conn, method_id)
        if row is None and method_id in TEST_CARDS:
            return _card({"id": method_id, "card": method_id, "customer_id": None})
        if row is None:
            raise _no_such("PaymentMethod", method_id)
        return _card(row)

    async def attach(self, method_id: str, customer_id: str) -> Card:
        """Saves a card with a customer; a test card's name makes a card of its own each time, as Stripe's do."""
        async with self._atomically() as conn:
            await _require_customer(conn, customer_id)
            if method_id in TEST_CARDS:
                _require_savable(TEST_CARDS[method_id])
                made_id = f"pm_test_{_hex()}"
                return _card(await store.add_card(conn, method_id=made_id, card=method_id, customer_id=customer_id, at=now()))
            row = await store.card_by_id(conn, method_id)
        if row is None:
            raise _no_such("PaymentMethod", method_id)
        if row["customer_id"] != customer_id:
            raise CardRefused("The card belongs to another customer, or was detached for good.", code="payment_method_customer")
        return _card(row)

    async def detach(self, method_id: str) -> None:
        """Forgets a card; one that is forgotten already stays so."""
        async with self._connection() as conn:
            if not await store.release_card(conn, method_id):
                raise _no_such("PaymentMethod", method_id)

    async def invoices(self, customer_id: str, *, limit: int) -> list[ProcessorInvoice]:
        """Returns one paid invoice for each charge, newest first."""
        async with self._connection() as conn:
            await _require_customer(conn, customer_id)
            return [_invoice(row) for row in await store.charges_of(conn, customer_id, limit)]

    async def create(
        self, *, customer_id: str, method_id: str, amount_cents: int, metadata: Mapping[str, str], key: str
    ) -> Intent:
        """Makes an intent in AUD that moves no money yet; the same key makes one intent."""
        asked = {"customer": customer_id, "method": method_id, "amount": amount_cents, "metadata": dict(metadata)}
        async with self._atomically() as conn:
            card = await store.card_by_id(conn, method_id)
            if card is None:
                raise _no_such("PaymentMethod", method_id)
            if card["customer_id"] != customer_id:
                raise ProcessorError("The payment method does not belong to the customer.", code="payment_method_customer")
            intent_id = await self._made(conn, "pi_test", key, asked)
            await store.add_intent(
                conn,
                intent_id=intent_id,
                customer_id=customer_id,
                method_id=method_id,
                amount_cents=amount_cents,
                client_secret=_client_secret(intent_id),
                metadata=dict(metadata),
                at=now(),
            )
            row = await store.intent_by_id(conn, intent_id)
        assert row is not None
        return _intent(row)

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        """Charges the card, as its kind of test card behaves; an intent that is past that is returned as it is."""
        async with self._atomically() as conn:
            row = await store.intent_to_confirm(conn, intent_id)
            if row is None:
                raise _no_such("PaymentIntent", intent_id)
            await self._made(conn, "confirm", key, {"confirm": intent_id})
            if row["status"] != "requires_confirmation":
                return _intent(row)
            if row["holder"] != row["customer_id"]:
                raise ProcessorError("The card was detached from its customer.", code="payment_method_unexpected_state")
            card = TEST_CARDS[row["card"]]
            if card.answer in {"down", "slow"}:
                charged = row
            else:
                status = "succeeded" if card.answer in {"lost", "garbage"} else card.answer
                charged = await _become(conn, intent_id, status, card.decline_code)
        await self._trouble(card)
        return _intent(charged)

    async def intent(self, intent_id: str) -> Intent:
        """Returns an intent as it is now."""
        async with self._connection() as conn:
            row = await store.intent_by_id(conn, intent_id)
        if row is None:
            raise _no_such("PaymentIntent", intent_id)
        return _intent(row)

    async def cancel(self, intent_id: str) -> Intent:
        """Ends an intent that has not succeeded; one that is over is returned as it is."""
        async with self._connection() as conn:
            row = await store.canceled(conn, intent_id) or await store.intent_by_id(conn, intent_id)
        if row is None:
            raise _no_such("PaymentIntent", intent_id)
        return _intent(row)

    async def decide(self, client_secret: str, *, succeeds: bool) -> Intent:
        """Plays the bank's answer to a card holder; raises NoSuchObject, or ProcessorError when nothing waits for it."""
        async with self._atomically() as conn:
            row = await store.intent_at_bank(conn, client_secret)
            if row is None:
                raise NoSuchObject("No payment has this client secret.", code="resource_missing")
            if row["status"] not in {"requires_action", "processing"}:
                raise ProcessorError(
                    f"The payment is {row['status']} and waits for nobody.", code="payment_intent_unexpected_state"
                )
            refusal = TEST_CARDS[row["card"]].declined_after if succeeds else "payment_intent_authentication_failure"
            return _intent(await _become(conn, row["id"], "failed" if refusal else "succeeded", refusal))

    async def reverse(self, intent_id: str, *, reversed_cents: int) -> Intent:
        """Plays a refund or dispute: so many cents of a charge have gone back in all."""
        async with self._connection() as conn:
            row = await store.reversed_to(conn, intent_id, reversed_cents)
        if row is None:
            raise _no_such("charge of PaymentIntent", intent_id)
        return _intent(row)

    def notice(self, intent: Intent, at: datetime) -> tuple[bytes, str]:
        """Returns the body and signature of what a processor would send unasked about an intent."""
        told = "charge.refunded" if intent.reversed_cents else _ENDED.get(intent.status, f"payment_intent.{intent.status}")
        body = dumps(
            {
                "id": f"evt_test_{_hex()}",
                "object": "event",
                "type": told,
                "created": int(at.timestamp()),
                "livemode": False,
                "data": {"object": {"id": intent.id, "object": "payment_intent", "status": intent.status}},
            }
        )
        return body, signature_of(body, self._notice_secret, at)

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self.down:
            raise ProcessorUnreachable("The test processor is switched off.")
        async with self._connect() as conn:
            yield conn

    @contextlib.asynccontextmanager
    async def _atomically(self) -> AsyncIterator[Connection]:
        async with self._connection() as conn, conn.transaction():
            yield conn

    async def _made(self, conn: Connection, prefix: str, key: str, asked: Mapping[str, Any]) -> str:
        """Returns the id that a key stands for, a fresh one at its first use; raises ProcessorError for another request."""
        digest = hashlib.sha256(canonical({"of": prefix, **asked})).hexdigest()
        claim = await store.claimed(conn, key=key, digest=digest, object_id=f"{prefix}_{_hex()}", at=now())
        if claim["digest"] != digest:
            raise ProcessorError("This idempotency key was used with other parameters.", code="idempotency_error")
        return str(claim["object_id"])

    async def _trouble(self, card: TestCard) -> None:
        """Loses the answer on its way, for the cards that do that."""
        match card.answer:
            case "slow":
                await asyncio.sleep(self._timeout_s)
                raise ProcessorUnreachable(f"The processor did not answer within {self._timeout_s:g} s.")
            case "down" | "lost":
                raise ProcessorUnreachable("The connection to the processor broke.")
            case "garbage":
                raise ProcessorUnreachable("The processor's answer makes no sense.")


async def _become(conn: Connection, intent_id: str, status: str, decline_code: str | None) -> Row:
    message = None if decline_code is None else _REFUSALS.get(decline_code, "Your card was declined.")
    return await store.become(conn, intent_id, status, decline_code=decline_code, failure_message=message)


async def _require_customer(conn: Connection, customer_id: str) -> None:
    if not await store.has_customer(conn, customer_id):
        raise _no_such("customer", customer_id)


def _require_savable(card: TestCard) -> None:
    if card.answer == "unsavable":
        raise CardRefused("The card holder has not given their consent.", code=card.decline_code)


def _no_such(what: str, object_id: str) -> NoSuchObject:
    return NoSuchObject(f"No such {what}: {object_id}", code="resource_missing")


def _hex() -> str:
    return new_id().replace("-", "")


def _client_secret(object_id: str) -> str:
    return f"{object_id}_secret_{secrets.token_hex(16)}"


def _card(row: Row) -> Card:
    kind = TEST_CARDS[row["card"]]
    return Card(
        id=row["id"],
        brand=kind.brand,
        last4=kind.last4,
        exp_month=kind.exp_month,
        exp_year=kind.exp_year,
        holder_name=None,
        customer_id=row["customer_id"],
    )


def _intent(row: Row) -> Intent:
    return Intent(
        id=row["id"],
        status=row["status"],
        amount_cents=row["amount_cents"],
        currency=row["currency"],
        client_secret=row["client_secret"],
        metadata=row["metadata"],
        decline_code=row["decline_code"],
        failure_message=row["failure_message"],
        reversed_cents=row["reversed_cents"],
    )


def _invoice(row: Row) -> ProcessorInvoice:
    return ProcessorInvoice(
        id=row["id"].replace("pi_", "in_", 1),
        number=None,
        status="paid",
        amount_due_cents=row["amount_cents"],
        amount_paid_cents=row["amount_cents"],
        currency=row["currency"],
        created_at=row["created_at"],
        hosted_invoice_url=None,
        pdf_url=None,
    )
