"""Turns a credential into a principal: one statement for a credential seen before, one more for a new one.

Whatever ends or changes a right acts on the next call, everywhere: it grows the credential epoch in its own transaction. What a
lookup has found is used again for at most a minute and only while that epoch stays, which the statement that counts the call
reads along. A token only says which session it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.oauth.tokens import Tokens
from geopera_server.domains.identity.store import sessions
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.principal import Admission, Authenticator, Credential, Principal, RateClass
from geopera_server.values.clock import now
from geopera_server.values.ids import is_id

REMEMBERED_CREDENTIALS = 10_000


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a bare credential is looked up by: exactly one of the two."""

    key_hash: bytes | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CronCredential:
    """The secret that a clock outside calls with, and as whom: a service that may do nothing but what clocks do."""

    secret: bytes
    principal: Principal


def lookup_for(token: str, tokens: Tokens, key_pepper: bytes, at: datetime) -> Lookup | None:
    """Returns how to look a credential up; None for a token that we did not sign or that has expired.

    A signed token has exactly two dots. Everything else is taken for an API key, in whatever form it was once given out.
    """
    if token.count(".") == 2:
        session_id = tokens.session_of(token, at)
        return None if session_id is None else Lookup(session_id=session_id)
    return Lookup(key_hash=hmac.digest(key_pepper, token.encode(), hashlib.sha256))


def make_authenticator(tokens: Tokens, key_pepper: bytes, *, cron: CronCredential | None = None) -> Authenticator:
    """Returns the kernel's authenticator over these keys, and over the secret of the deployment's clock if it has one.

    It raises NotFound when the call asks for an organization that the principal does not belong to.
    """
    seen: dict[tuple[str, str | None], _Seen] = {}

    async def authenticate(
        conn: AsyncConnection[dict[str, Any]], credential: Credential, rate_class: RateClass
    ) -> Admission | None:
        at = now()
        if cron is not None and hmac.compare_digest(credential.token.encode(), cron.secret):
            counted = await sessions.count_call(conn, f"{rate_class}:cron", at)
            return Admission(principal=cron.principal, used_by_organization=counted["used"])
        lookup = lookup_for(credential.token, tokens, key_pepper, at)
        if lookup is None:
            return None
        asked = (credential.token, credential.requested_organization_id)
        known = seen.get(asked)
        if known is not None and known.good_until > at:
            counted = await sessions.count_call(conn, known.bucket(rate_class), at)
            if counted["epoch"] == known.epoch:
                return Admission(principal=known.principal, used_by_organization=counted["used"], plan_cap=known.plan_cap)
            # Another call may have seen the change too, and have forgotten it first.
            seen.pop(asked, None)
            return _admission(await _look_up(conn, lookup, credential, None, at), lookup, used=counted["used"])
        row = await _look_up(conn, lookup, credential, rate_class, at)
        admission = _admission(row, lookup)
        if row is not None and admission is not None and row["key_rate_limit"] is None:
            if len(seen) >= REMEMBERED_CREDENTIALS:
                seen.clear()
            seen[asked] = _Seen(admission.principal, row["credential_epoch"], _good_until(row, at), row["plan_rate_limit"])
        return admission

    return authenticate


@dataclass(frozen=True, slots=True)
class _Seen:
    principal: Principal
    epoch: int
    good_until: datetime
    plan_cap: int | None

    def bucket(self, rate_class: RateClass) -> str:
        return f"{rate_class}:{self.principal.organization_id or self.principal.id}"


def _good_until(row: Row, at: datetime) -> datetime:
    """A minute, so that last_used_at stays true; never past the end of a key."""
    minute_on = at + timedelta(minutes=1)
    return minute_on if row["key_expires_at"] is None else min(minute_on, row["key_expires_at"])


async def _look_up(
    conn: Connection, lookup: Lookup, credential: Credential, rate_class: RateClass | None, at: datetime
) -> Row | None:
    requested = credential.requested_organization_id
    row = await sessions.admit(
        conn,
        key_hash=lookup.key_hash,
        session_id=lookup.session_id,
        requested_organization_id=requested if requested and is_id(requested) else None,
        rate_class=rate_class,
        at=at,
    )
    if row is not None and requested and requested.lower() != row["organization_id"]:
        raise NotFound("organization")
    return row


def _admission(row: Row | None, lookup: Lookup, *, used: int | None = None) -> Admission | None:
    if row is None:
        return None
    return Admission(
        principal=principal_of(row, session_id=lookup.session_id),
        used_by_organization=row["used_by_organization"] if used is None else used,
        used_by_key=row["used_by_key"],
        key_cap=row["key_rate_limit"],
        plan_cap=row["plan_rate_limit"],
    )


async def identify(conn: Connection, session_id: str, at: datetime) -> Principal | None:
    """Returns whom a session stands for now, without counting a call; None when it has ended."""
    row = await sessions.admit(
        conn, key_hash=None, session_id=session_id, requested_organization_id=None, rate_class=None, at=at
    )
    return None if row is None else principal_of(row, session_id=session_id)


def principal_of(row: Row, *, session_id: str | None) -> Principal:
    """Returns the principal that a row of `admit` describes."""
    narrowed = row["session_scopes"]
    if row["principal_type"] == "user":
        held = scopes.of_human(row["organization_role"], operator=row["operator"])
    else:
        held = frozenset(row["permissions"])
    return Principal(
        kind=row["principal_type"],
        id=row["principal_id"],
        organization_id=row["organization_id"],
        organization_role=row["organization_role"],
        scopes=held if narrowed is None else held & frozenset(narrowed),
        standing=row["standing"] or "active",
        session_id=session_id,
    )
