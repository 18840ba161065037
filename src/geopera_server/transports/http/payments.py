"""Where the card processor's notices come in, and, with the test processor alone, where card holders meet their bank."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Literal, Protocol

import psycopg
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from geopera_server.domains.payments.noticing import take_notice
from geopera_server.kernel.errors import Conflict, InvalidInput, Malformed, NotFound, OperationError, TooLarge, Unavailable
from geopera_server.kernel.pipeline import Kernel, as_refusal
from geopera_server.kernel.registry import Registry
from geopera_server.kernel.validation import issues_of, parse_body
from geopera_server.ports.payments import Intent, NoSuchObject, NoticeRefused, ProcessorError, ProcessorUnreachable
from geopera_server.transports.http.calls import read_body
from geopera_server.transports.http.problems import problem_response
from geopera_server.values.clock import now
from geopera_server.values.encoding import dumps

logger = logging.getLogger(__name__)

MAX_NOTICE_BYTES = 1024 * 1024
MAX_CONFIRM_BYTES = 10_000


class Bank(Protocol):
    """The test processor's stand-in for the bank of a card."""

    async def decide(self, client_secret: str, *, succeeds: bool) -> Intent:
        """Answers a card holder; raises NoSuchObject, or ProcessorError when nothing waits for an answer."""
        ...

    def notice(self, intent: Intent, at: datetime) -> tuple[bytes, str]:
        """Returns body and signature of the notice that follows."""
        ...


class ConfirmInput(BaseModel):
    """What the card holder was given to confirm with, and how it goes."""

    client_secret: str = Field(min_length=1, max_length=500, pattern=r"^[A-Za-z0-9_]+$")
    outcome: Literal["succeed", "fail"]


class PaymentRoutes:
    """Answers the processor, and card holders of the test processor; `bank` is None where cards are real."""

    def __init__(self, kernel: Kernel, registry: Registry, bank: Bank | None) -> None:
        self._kernel = kernel
        self._registry = registry
        self._bank = bank

    def routes(self) -> list[Route]:
        """Returns the routes to mount."""
        webhook = Route("/v1/webhooks/payments", self.webhook, methods=["POST"])
        if self._bank is None:
            return [webhook]
        return [webhook, Route("/v1/test/payments/confirm", self.confirm, methods=["POST"])]

    async def webhook(self, request: Request) -> Response:
        """Takes a notice; anything but success tells the processor to deliver it again."""
        try:
            body = await read_body(request, MAX_NOTICE_BYTES)
            await self._take(body, request.headers.get("stripe-signature"))
        except TooLarge as error:
            return _refused(Malformed(error.detail, code="notice_refused"), request)
        except NoticeRefused as error:
            return _refused(Malformed(str(error), code="notice_refused"), request)
        except (OperationError, psycopg.OperationalError, PoolTimeout) as error:
            return _refused(_come_again(error), request)
        return Response(b'{"received":true}', media_type="application/json")

    async def confirm(self, request: Request) -> Response:
        """Plays the bank of a test card; the client secret is the card holder's credential."""
        assert self._bank is not None
        try:
            given = _confirmation(await read_body(request, MAX_CONFIRM_BYTES))
            intent = await self._decided(given)
        except OperationError as error:
            return _refused(error, request)
        await self._send_notice(intent)
        answer = {"payment_intent_id": intent.id, "status": intent.status, "env": self._kernel.ports.processor.env}
        return Response(dumps(answer), media_type="application/json")

    async def _decided(self, given: ConfirmInput) -> Intent:
        assert self._bank is not None
        try:
            return await self._bank.decide(given.client_secret, succeeds=given.outcome == "succeed")
        except NoSuchObject as error:
            raise NotFound("payment with this client_secret") from error
        except ProcessorUnreachable as error:
            raise Unavailable(f"{error} Send the same request again.") from error
        except ProcessorError as error:
            raise Conflict(str(error), code="illegal_state") from error

    async def _send_notice(self, intent: Intent) -> None:
        """Delivers the notice as from outside; one that cannot be handled now is not what the card holder asked about."""
        assert self._bank is not None
        try:
            await self._take(*self._bank.notice(intent, now()))
        except (OperationError, psycopg.OperationalError, PoolTimeout) as error:
            logger.warning("the notice about %s could not be handled and the charge is looked at later: %s", intent.id, error)

    async def _take(self, body: bytes, signature: str | None) -> None:
        notice = self._kernel.ports.processor.notices.read(body, signature, now())
        await take_notice(self._kernel, self._registry, notice)


def _confirmation(body: bytes) -> ConfirmInput:
    try:
        return ConfirmInput.model_validate(parse_body(body))
    except ValidationError as error:
        raise InvalidInput.of(issues_of(error)) from error


def _come_again(error: Exception) -> OperationError:
    """Returns a refusal of 500 or more, whatever stood in the way: the notice itself was good."""
    refusal = as_refusal(error)
    if refusal is not None and refusal.status >= 500:
        return refusal
    logger.warning("a notice could not be handled: %s", error)
    return Unavailable("The notice could not be handled at the moment. Deliver it again.", retry_after_s=5)


def _refused(error: OperationError, request: Request) -> Response:
    return problem_response(error, request.state.invocation_id)
