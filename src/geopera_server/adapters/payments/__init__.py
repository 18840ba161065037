"""The card processor that the settings choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from geopera_server.adapters.payments.absent import AbsentProcessor
from geopera_server.adapters.payments.signing import SignedNotices
from geopera_server.adapters.payments.testing import PracticeProcessor
from geopera_server.ports import Connect
from geopera_server.ports.payments import Processor
from geopera_server.settings import Settings

__all__ = ["make_processor", "practice_of"]


@asynccontextmanager
async def make_processor(settings: Settings, connect: Connect) -> AsyncIterator[Processor]:
    """Yields the processor, and closes its connections when left.

    Raises SettingsRefused for the test processor in production, and for Stripe without its keys.
    """
    settings.require_payments()
    match settings.card_processor:
        case "none":
            absent = AbsentProcessor()
            yield Processor(
                name="none", env="prod", cards=absent, charges=absent, notices=absent, timeout_s=settings.payment_timeout_s
            )
        case "test":
            yield _practice(settings, connect)
        case "stripe":
            async with _stripe(settings) as processor:
                yield processor


def practice_of(processor: Processor) -> PracticeProcessor | None:
    """Returns the test processor behind the port; None when charges are real."""
    return processor.charges if isinstance(processor.charges, PracticeProcessor) else None


def _practice(settings: Settings, connect: Connect) -> Processor:
    secret = settings.key_for("test-processor")
    practice = PracticeProcessor(connect, secret, timeout_s=settings.payment_timeout_s)
    return Processor(
        name="test",
        env="test",
        cards=practice,
        charges=practice,
        notices=SignedNotices(secret),
        timeout_s=settings.payment_timeout_s,
    )


@asynccontextmanager
async def _stripe(settings: Settings) -> AsyncIterator[Processor]:
    # Only who has chosen Stripe waits for its library to load.
    from geopera_server.adapters.payments.stripe_api import StripeProcessor  # noqa: PLC0415

    assert settings.stripe_secret_key is not None
    assert settings.stripe_webhook_secret is not None
    api_key = settings.stripe_secret_key.get_secret_value()
    processor = StripeProcessor(api_key, api_base=settings.stripe_api_base, timeout_s=settings.payment_timeout_s)
    try:
        yield Processor(
            name="stripe",
            env="prod" if "_live_" in api_key else "demo",
            cards=processor,
            charges=processor,
            notices=SignedNotices(settings.stripe_webhook_secret.get_secret_value().encode()),
            timeout_s=settings.payment_timeout_s,
        )
    finally:
        await processor.close()
