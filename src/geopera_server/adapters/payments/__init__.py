"""The card processor that the settings choose."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
    secret = settings.key_for("test-processor")
    practice = PracticeProcessor(connect, secret, timeout_s=settings.payment_timeout_s)
    yield Processor(
        name="test",
        env="test",
        cards=practice,
        charges=practice,
        notices=SignedNotices(secret),
        timeout_s=settings.payment_timeout_s,
    )


def practice_of(processor: Processor) -> PracticeProcessor | None:
    """Returns the test processor behind the port; None when charges are real."""
    return processor.charges if isinstance(processor.charges, PracticeProcessor) else None
