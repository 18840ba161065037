"""Turns a credential into a principal: one lookup in the database, whatever the credential looks like.

Roles, key scopes and the state of session, key, human and organization are read anew with every call, so that whatever ends
or changes them acts on the next call. A token only says which session it belongs to.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncConnection

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.oauth.tokens import Tokens
from geopera_server.domains.identity.store import sessions
from geopera_server.kernel.clock import now
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.ids import is_id
from geopera_server.kernel.operation import RateClass
from geopera_server.kernel.principal import Admission, Authenticator, Credential, Principal


@dataclass(frozen=True, slots=True)
class Lookup:
    """What a bare credential is looked up by: exactly one of the two."""

    key_hash: bytes | None = None
    session_id: str | None = None


def lookup_for(token: str, tokens: Tokens, key_pepper: bytes, at: datetime) -> Lookup | None:
    """Returns how to look a credential up; None for a token that we did not sign or that has expired.

    A signed token has exactly two dots. Everything else is taken for an API key, in whatever form it was once given out.
    """
    if token.count(".") == 2:
        session_id = tokens.session_of(token, at)
        return None if session_id is None else Lookup(session_id=session_id)
    return Lookup(key_hash=hmac.digest(key_pepper, token.encode(), hashlib.sha256))


def make_authenticator(tokens: Tokens, key_pepper: bytes) -> Authenticator:
    """Returns the kernel's authenticator over these keys.

    It raises NotFound when the call asks for an organization that the principal does not belong to.
    """

    async def authenticate(
        conn: AsyncConnection[dict[str, Any]], credential: Credential, rate_class: RateClass
    ) -> Admission | None:
        at = now()
        lookup = lookup_for(credential.token, tokens, key_pepper, at)
        if lookup is None:
            return None
        requested = credential.requested_organization_id
        row = await sessions.admit(
            conn,
            key_hash=lookup.key_hash,
            session_id=lookup.session_id,
            requested_organization_id=requested if requested and is_id(requested) else None,
            rate_class=rate_class,
            at=at,
        )
        if row is None:
            return None
        if requested and requested.lower() != row["organization_id"]:
            raise NotFound("organization")
        return Admission(
            principal=principal_of(row, session_id=lookup.session_id),
            used_by_organization=row["used_by_organization"],
            used_by_key=row["used_by_key"],
            key_cap=row["key_rate_limit"],
        )

    return authenticate


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
