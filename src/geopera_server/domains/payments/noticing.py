"""Working on what the processor sends unasked: a notice says where to look, and the processor is asked what is there."""

from __future__ import annotations

from geopera_server.domains.payments.store import notices
from geopera_server.kernel.pipeline import Call, Kernel
from geopera_server.kernel.principal import service
from geopera_server.kernel.registry import Registry
from geopera_server.ports.payments import Notice
from geopera_server.values.clock import now


async def take_notice(kernel: Kernel, registry: Registry, notice: Notice) -> bool:
    """Resolves the charge that a notice is about, and says whether it was about one of ours for the first time.

    The event counts as handled only after that, so that one whose handling failed is worked on when it is delivered again.
    Two deliveries at the same time may both come to resolve, which changes nothing the second time. Raises what resolving
    raises.
    """
    processor = kernel.ports.processor.name
    if notice.intent_id is None:
        return False
    async with kernel.pool.connection() as conn:
        if await notices.is_handled(conn, processor, notice.id):
            return False
        topup = await notices.topup_of_intent(conn, processor, notice.intent_id)
    if topup is None:
        return False
    await kernel.run(
        Call(
            operation=registry.get("billing.payments.resolve"),
            given={"topup_id": topup["id"]},
            principal=service(organization_id=topup["organization_id"]),
        )
    )
    async with kernel.pool.connection() as conn:
        await notices.set_handled(conn, processor, notice, at=now())
    return True
