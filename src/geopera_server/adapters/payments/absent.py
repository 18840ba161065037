"""No card processor: for deployments whose operator grants credits or invoices, and for production until one is chosen."""

# ruff: noqa: ARG002  (what is asked for makes no difference)

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import NoReturn

from geopera_server.ports.payments import Card, Intent, NoProcessor, Notice, NoticeRefused, ProcessorInvoice, Setup


class AbsentProcessor:
    """Takes no cards, and says so."""

    async def create_customer(self, *, organization_id: str, name: str, email: str | None, key: str) -> str:
        """Raises NoProcessor."""
        _refuse()

    async def create_setup(self, customer_id: str, *, key: str) -> Setup:
        """Raises NoProcessor."""
        _refuse()

    async def card(self, method_id: str) -> Card:
        """Raises NoProcessor."""
        _refuse()

    async def attach(self, method_id: str, customer_id: str) -> Card:
        """Raises NoProcessor."""
        _refuse()

    async def detach(self, method_id: str) -> None:
        """Raises NoProcessor."""
        _refuse()

    async def invoices(self, customer_id: str, *, limit: int) -> list[ProcessorInvoice]:
        """Raises NoProcessor."""
        _refuse()

    async def create(
        self,
        *,
        customer_id: str,
        method_id: str,
        amount_cents: int,
        metadata: Mapping[str, str],
        key: str,
    ) -> Intent:
        """Raises NoProcessor."""
        _refuse()

    async def confirm(self, intent_id: str, *, key: str) -> Intent:
        """Raises NoProcessor."""
        _refuse()

    async def intent(self, intent_id: str) -> Intent:
        """Raises NoProcessor."""
        _refuse()

    async def cancel(self, intent_id: str) -> Intent:
        """Raises NoProcessor."""
        _refuse()

    def read(self, body: bytes, signature: str | None, at: datetime) -> Notice:
        """Raises NoticeRefused."""
        raise NoticeRefused("This deployment has no card processor, so that nobody can have signed this.")


def _refuse() -> NoReturn:
    raise NoProcessor("This deployment takes no cards.")
