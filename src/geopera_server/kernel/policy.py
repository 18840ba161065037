"""What stands between a credential and an operation: rate windows, scopes, and the standing of the organization."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from geopera_server.kernel.errors import Conflict, Denied, PaymentRequired, RateLimited
from geopera_server.kernel.operation import Operation
from geopera_server.kernel.principal import Admission, Principal, RateClass

WINDOW_S = 60
DEFAULT_CALLS = 600
CALLS: Mapping[RateClass, str] = {
    "default": "calls",
    "placement": "orders placed",
    "spend": "spending calls",
    "public": "public calls",
    "tiles": "tile requests",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCaps:
    """Calls per minute: per organization for each class, per address for callers without credential (tiles apart).

    Without a default of the deployment's own, an organization's plan says how many; 600 where it does not.
    """

    default: int | None = None
    placement: int = 60
    spend: int = 30
    tiles: int = 6_000
    public: int = 60
    public_tiles: int = 1_200

    def of(self, rate_class: RateClass, plan_cap: int | None = None) -> int:
        """Returns the cap of a class, for an organization whose plan allows this many calls."""
        return int(getattr(self, rate_class) or plan_cap or DEFAULT_CALLS)


def check_rate(admission: Admission, rate_class: RateClass, caps: RateCaps, at: datetime) -> None:
    """Raises RateLimited when this call is over the organization's cap or the key's own; the tighter one wins."""
    cap = caps.of(rate_class, admission.plan_cap)
    if admission.used_by_organization > cap:
        raise _over(cap, f"{CALLS[rate_class]} of your organization", at)
    if admission.key_cap is not None and (admission.used_by_key or 0) > admission.key_cap:
        raise _over(admission.key_cap, "calls of this API key", at)


async def count_guest(
    conn: AsyncConnection[dict[str, Any]], ip: str, caps: RateCaps, at: datetime, *, rate_class: RateClass = "public"
) -> None:
    """Counts a call without credential against its address; maps load tiles in bursts, so those have a cap of their own.

    Raises RateLimited over the cap.
    """
    tiles = rate_class == "tiles"
    cap = caps.public_tiles if tiles else caps.public
    if await _counted(conn, f"{'tiles-ip' if tiles else 'ip'}:{ip}", at) > cap:
        raise _over(cap, f"{'tile requests' if tiles else 'calls'} without a credential from your address", at)


async def count_ticket(
    conn: AsyncConnection[dict[str, Any]], principal: Principal, rate_class: RateClass, caps: RateCaps, at: datetime
) -> None:
    """Counts a call by whoever holds a ticket of an organization against that organization; raises RateLimited over the cap."""
    cap = caps.of(rate_class)
    if await _counted(conn, f"{rate_class}:{principal.organization_id}", at) > cap:
        raise _over(cap, f"{CALLS[rate_class]} of the organization", at)


async def _counted(conn: AsyncConnection[dict[str, Any]], bucket: str, at: datetime) -> int:
    cursor = await conn.execute(
        "INSERT INTO rate_window AS w VALUES (%s, date_trunc('minute', %s::timestamptz), 1)"
        " ON CONFLICT (bucket, window_start) DO UPDATE SET used = w.used + 1 RETURNING w.used",
        (bucket, at),
    )
    row = await cursor.fetchone()
    assert row is not None
    return int(row["used"])


def _over(cap: int, what: str, at: datetime) -> RateLimited:
    seconds_left = WINDOW_S - at.second
    return RateLimited(f"More than {cap} {what} in this minute. Try again in {seconds_left} s.", retry_after_s=seconds_left)


def authorise(operation: Operation, principal: Principal) -> None:
    """Raises Denied, PaymentRequired or Conflict unless the principal may call this operation at all."""
    if not operation.public and not principal.holds(operation.scope):
        raise Denied(f"missing scope '{operation.scope}' for '{operation.id}'", code="missing_scope")
    if operation.id not in (principal.only or ()):
        require_unrestricted(principal)
    if principal.standing == "suspended" and not operation.while_suspended:
        raise Denied(
            "Your organization is suspended: reads and billing still work. Settle what is open, or write to your operator.",
            code="org_suspended",
        )
    if principal.standing == "past_due" and operation.spends and not operation.while_past_due:
        raise past_due()
    if principal.standing == "pending_deletion" and operation.spends and not operation.while_leaving:
        raise leaving()


def past_due() -> PaymentRequired:
    """Returns the refusal of a purchase by who owes a payment."""
    return PaymentRequired(
        "A payment of your organization is past due. Pay it under billing, then try again.", code="account_past_due"
    )


def leaving() -> Conflict:
    """Returns the refusal of a purchase by who is about to be deleted."""
    return Conflict(
        "Your organization is going to be deleted and buys nothing more. Call organizations.deletion.cancel to keep it.",
        code="illegal_state",
    )


def require_unrestricted(principal: Principal) -> None:
    """Raises Denied for a credential that is for some operations only."""
    if principal.only is not None:
        raise Denied(f"This credential is only for {', '.join(sorted(principal.only))}.", code="missing_scope")


async def forget_old_windows(conn: AsyncConnection[dict[str, Any]], before: datetime) -> None:
    """Removes the windows that can no longer limit anybody."""
    await conn.execute("DELETE FROM rate_window WHERE window_start < %s", (before,))
