"""Cards and charges at Stripe, through its own client library."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import stripe

from geopera_server.adapters.payments.stripe_objects import card_of, intent_of, invoice_of, is_disputed, setup_of
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

# Its more talkative levels write out bodies, and with them client secrets.
logging.getLogger("stripe").setLevel(logging.WARNING)

# Of the API, not of the library: a newer library still speaks as this module was written for.
_API_VERSION = "2026-10-28.endive"
_RETRIES = 1
_NONSENSE = "The processor's answer makes no sense."


class StripeProcessor:
    """Cards and charges at Stripe; `timeout_s` bounds one question with its repeats."""

    def __init__(self, api_key: str, *, api_base: str, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._http = stripe.HTTPXClient(timeout=timeout_s)
        self._v1 = stripe.StripeClient(
            api_key,
            stripe_version=_API_VERSION,
            base_addresses={"api": api_base.rstrip("/")},
            http_client=self._http,
            max_network_retries=_RETRIES,
        ).v1

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close_async()  # type: ignore[no-untyped-call]

    async def create_customer(self, *, organization_id: str, name: str, email: str | None, key: str) -> str:
        """Returns the id of a new customer; the same key makes one customer."""
        async with self._asking():
            metadata = {"organization_id": organization_id}
            customer = await self._v1.customers.create_async(
                {"name": name, "metadata": metadata} if email is None else {"name": name, "email": email, "metadata": metadata},
                {"idempotency_key": key},
            )
            return str(customer.to_dict()["id"])

    async def create_setup(self, customer_id: str, *, key: str) -> Setup:
        """Asks for consent to charge a card of this customer later."""
        async with self._asking():
            setup = await self._v1.setup_intents.create_async(
                {"customer": customer_id, "usage": "off_session", "allowed_payment_method_types": ["card"]},
                {"idempotency_key": key},
            )
            return setup_of(setup.to_dict())

    async def card(self, method_id: str) -> Card:
        """Returns a card as it is now; raises CardRefused for what can be charged and is no card."""
        async with self._asking():
            return card_of((await self._v1.payment_methods.retrieve_async(method_id)).to_dict())

    async def attach(self, method_id: str, customer_id: str) -> Card:
        """Saves a card with a customer; raises CardRefused where Stripe or the bank does not let it be saved."""
        async with self._asking():
            try:
                method = await self._v1.payment_methods.attach_async(method_id, {"customer": customer_id})
            except (stripe.CardError, stripe.InvalidRequestError) as error:
                if error.http_status == 404:
                    raise
                raise CardRefused(error.user_message or "The card is refused.", code=_decline_code(error)) from None
            return card_of(method.to_dict())

    async def detach(self, method_id: str) -> None:
        """Forgets a card; one that is forgotten already stays so."""
        async with self._asking():
            try:
                await self._v1.payment_methods.detach_async(method_id)
            except stripe.InvalidRequestError as error:
                if error.http_status == 404 or (await self.card(method_id)).customer_id is not None:
                    raise

    async def invoices(self, customer_id: str, *, limit: int) -> list[ProcessorInvoice]:
        """Returns the customer's invoices, newest first."""
        async with self._asking():
            page = await self._v1.invoices.list_async({"customer": customer_id, "limit": limit})
            return [invoice_of(one) for one in page.to_dict()["data"]]

    async def create(
        self, *, customer_id: str, method_id: str, amount_cents: int, metadata: Mapping[str, str], key: str
    ) -> Intent:
        """Makes an intent in AUD that moves no money yet; the same key makes one intent."""
        async with self._asking():
            # Without naming cards alone, Stripe would offer what needs an address to return to.
            intent = await self._v1.payment_intents.create_async(
                {
                    "amount": amount_cents,
                    "currency": "aud",
                    "customer": customer_id,
                    "payment_method": method_id,
                    "allowed_payment_method_types": ["card"],
                    "metadata": dict(metadata),
                },
                {"idempotency_key": key},
            )
            return intent_of(intent.to_dict())

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        """Charges the card; an intent that is past that is returned as it is now.

        Stripe repeats for a key what it answered first, failures of its own included, so a repeat is looked at afresh.
        """
        async with self._asking():
            try:
                intent = await self._v1.payment_intents.confirm_async(
                    intent_id, {"off_session": True, "expand": ["latest_charge"]}, {"idempotency_key": key}
                )
            except stripe.CardError as error:
                told = _intent_in(error)
                if told is not None and not _is_repeat(error.headers):
                    return intent_of(told)
            except stripe.InvalidRequestError as error:
                return await self._past(intent_id, error, unless={"requires_confirmation"})
            except stripe.APIError as error:
                if not _is_repeat(error.headers):
                    raise
            else:
                answer = intent.last_response
                if answer is not None and not _is_repeat(answer.headers):
                    return intent_of(intent.to_dict())
            return await self.intent(intent_id)

    async def intent(self, intent_id: str) -> Intent:
        """Returns an intent as it is now, with what has gone back by refunds and disputes."""
        async with self._asking():
            found = await self._v1.payment_intents.retrieve_async(intent_id, {"expand": ["latest_charge"]})
            told = found.to_dict()
            if not is_disputed(told):
                return intent_of(told)
            disputes = await self._v1.disputes.list_async({"payment_intent": intent_id, "limit": 100})
            return intent_of(told, disputes.to_dict()["data"])

    async def cancel(self, intent_id: str) -> Intent:
        """Ends an intent that has not succeeded; one that is over is returned as it is."""
        async with self._asking():
            try:
                return intent_of((await self._v1.payment_intents.cancel_async(intent_id)).to_dict())
            except stripe.InvalidRequestError as error:
                return await self._past(intent_id, error, unless={"requires_confirmation", "requires_action", "failed"})

    async def _past(self, intent_id: str, error: stripe.InvalidRequestError, *, unless: set[str]) -> Intent:
        """Returns an intent that something was refused for because of its state; raises the refusal for other reasons."""
        if error.http_status == 404:
            raise error
        intent = await self.intent(intent_id)
        if intent.status in unless:
            raise error
        return intent

    @contextlib.asynccontextmanager
    async def _asking(self) -> AsyncIterator[None]:
        """Bounds a question in time, and says in our words what came of it."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError:
            raise ProcessorUnreachable(f"The processor did not answer within {self._timeout_s:g} s.") from None
        except stripe.StripeError as error:
            # The library's error holds the whole body, which is nothing to be logged.
            raise _in_our_words(error) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ProcessorUnreachable(_NONSENSE) from None


def _in_our_words(error: stripe.StripeError) -> ProcessorError:
    if isinstance(error, stripe.APIConnectionError):
        return ProcessorUnreachable("The connection to the processor broke or could not be made.")
    if isinstance(error, (stripe.APIError, stripe.RateLimitError)):
        trouble = error.http_status is not None and error.http_status >= 400
        return ProcessorUnreachable(f"The processor answered with status {error.http_status}." if trouble else _NONSENSE)
    message = error.user_message or "The processor refuses the request."
    if error.http_status == 404 or error.code == "resource_missing":
        return NoSuchObject(message, code="resource_missing")
    if isinstance(error, stripe.AuthenticationError):
        return ProcessorError("The processor does not take our key. Check GEOPERA_STRIPE_SECRET_KEY.", code="authentication")
    return ProcessorError(message, code="idempotency_error" if isinstance(error, stripe.IdempotencyError) else error.code)


def _error_in(error: stripe.StripeError) -> Mapping[str, Any]:
    found = error.json_body.get("error") if isinstance(error.json_body, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _intent_in(error: stripe.StripeError) -> Mapping[str, Any] | None:
    found = _error_in(error).get("payment_intent")
    return found if isinstance(found, Mapping) else None


def _decline_code(error: stripe.StripeError) -> str | None:
    return _error_in(error).get("decline_code") or error.code


def _is_repeat(headers: Mapping[str, str] | None) -> bool:
    return any(name.lower() == "idempotent-replayed" and value == "true" for name, value in (headers or {}).items())
