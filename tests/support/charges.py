"""What happens to charges without anybody calling: card holders confirm, and the round looks after what is open."""

from __future__ import annotations

from geopera_server.kernel.principal import service
from support.house import Caller, Household


async def resolve_all(household: Household) -> None:
    """Does what the round that looks after charges does, without waiting for them to be due."""
    for row in await household.sql("SELECT id, organization_id FROM topup"):
        staff = Caller(household.house, service(organization_id=row["organization_id"]))
        await staff.op("billing.payments.resolve", {"topup_id": row["id"]})


async def confirm(household: Household) -> None:
    """Has the card holder confirm every payment that waits for it."""
    charges = household.house.kernel.ports.processor.charges
    for row in await household.sql("SELECT client_secret FROM test_processor_intent WHERE status = 'requires_action'"):
        await charges.decide(row["client_secret"], succeeds=True)
