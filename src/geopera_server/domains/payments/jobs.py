"""Topping up by itself: one charge per job, with the job as its purpose, so that a job taken up again charges nothing twice."""

from __future__ import annotations

from typing import Any

from geopera_server.domains.payments.auto_topup import AUTO_TOPUP
from geopera_server.domains.payments.operations.topping_up import charge_when_low, refuse
from geopera_server.kernel.errors import Conflict, OperationError, PaymentRequired, Unavailable
from geopera_server.kernel.jobs import JobRun, LeaseLost, TryAgain, background
from geopera_server.kernel.operation import Handler, operation_of
from geopera_server.kernel.pipeline import Call
from geopera_server.kernel.principal import service


@background(AUTO_TOPUP)
async def top_up(run: JobRun) -> None:
    """Charges what an organization's wallet lacks; safe to run again after any interruption."""
    try:
        await _operate(run, charge_when_low)
    except PaymentRequired as error:
        await _refuse(run, error, counts=True)
    except LeaseLost:
        raise
    except (Unavailable, Conflict) as error:
        # The processor is away, or another attempt is still at work on the charge: neither is the card's fault.
        if not run.last_chance:
            raise TryAgain(error.detail) from error
        await _refuse(run, error, counts=False)


async def _refuse(run: JobRun, error: OperationError, *, counts: bool) -> None:
    await _operate(run, refuse, code=error.members.get("decline_code") or error.code, detail=error.detail, counts=counts)


async def _operate(run: JobRun, handler: Handler, **given: Any) -> None:
    call = Call(
        operation=operation_of(handler),
        given={"job_id": run.id, "attempt": run.attempt, **given},
        principal=service(organization_id=run.organization_id),
    )
    await run.kernel.run(call)
