"""A key sent twice makes one thing: the second call gets the first one's reply, byte for byte.

A unique insert alone would make a concurrent second call wait for the first. A transaction-level advisory lock taken
without waiting answers it at once, and ends with the transaction whatever happens to the process.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from geopera_server.kernel.errors import Conflict, InvalidInput
from geopera_server.values.encoding import canonical

KEPT_FOR = timedelta(hours=24)
MAX_KEY_LENGTH = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """An idempotency key together with what it was sent for."""

    organization_id: str
    operation_id: str
    key: str
    fingerprint: bytes

    @property
    def lock(self) -> int:
        """A signed 64-bit number for the advisory lock."""
        name = f"{self.organization_id}/{self.operation_id}/{self.key}".encode()
        return int.from_bytes(hashlib.sha256(name).digest()[:8], "big", signed=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredReply:
    """What the first call under a key was answered."""

    status: int
    media_type: str
    body: bytes


def claim_for(organization_id: str, operation_id: str, key: str, given: Any) -> Claim:
    """Returns the claim of a key over a validated input; whitespace and key order of the body make no difference."""
    if not 1 <= len(key) <= MAX_KEY_LENGTH or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key must have 1 to {MAX_KEY_LENGTH} printable characters.", loc=())
    fingerprint = hashlib.sha256(operation_id.encode() + b"\n" + canonical(given)).digest()
    return Claim(organization_id=organization_id, operation_id=operation_id, key=key, fingerprint=fingerprint)


async def stored_reply(conn: AsyncConnection[Any], claim: Claim, now: datetime) -> StoredReply | None:
    """Returns the reply already given under this claim, or None.

    Raises Conflict when the key was used for another input, or when its reply held a secret that is not shown twice.
    """
    cursor = await conn.execute(
        "SELECT fingerprint, status, media_type, body, made_id FROM idempotency_record"
        " WHERE organization_id = %s AND operation_id = %s AND key = %s AND (expires_at IS NULL OR expires_at > %s)",
        (claim.organization_id, claim.operation_id, claim.key, now),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    if bytes(row["fingerprint"]) != claim.fingerprint:
        raise Conflict(
            "This Idempotency-Key was used before with another body. Use a new key for a new request.",
            code="idempotency_mismatch",
        )
    if row["body"] is None:
        raise Conflict(
            f"This Idempotency-Key already made {row['made_id']}; its secret was shown once and is not stored.",
            made_id=row["made_id"],
        )
    return StoredReply(status=row["status"], media_type=row["media_type"], body=bytes(row["body"]))


async def taken(conn: AsyncConnection[Any], claim: Claim, now: datetime) -> StoredReply | None:
    """Takes the key for the rest of this transaction and returns the reply already given under it, or None.

    Raises Conflict while another call holds the key, and as stored_reply does.
    """
    cursor = await conn.execute("SELECT pg_try_advisory_xact_lock(%s) AS taken", (claim.lock,))
    row = await cursor.fetchone()
    if row is None or not row["taken"]:
        raise Conflict(
            "A call with this Idempotency-Key is still running. Repeat it in a second to get its reply.",
            code="idempotency_in_progress",
            retry_after_s=1,
        )
    # A statement of its own: only its snapshot is sure to see what the last holder of the lock has committed.
    return await stored_reply(conn, claim, now)


async def remember(
    conn: AsyncConnection[Any],
    claim: Claim,
    reply: StoredReply,
    *,
    invocation_id: str,
    now: datetime,
    for_good: bool,
    made_id: str | None,
) -> None:
    """Stores the reply with the transaction that it tells of; `made_id` stands in for a body that holds a secret."""
    await conn.execute(
        "INSERT INTO idempotency_record (organization_id, operation_id, key, fingerprint, status, media_type, body,"
        " made_id, invocation_id, created_at, expires_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (organization_id, operation_id, key) DO UPDATE SET fingerprint = EXCLUDED.fingerprint,"
        " status = EXCLUDED.status, media_type = EXCLUDED.media_type, body = EXCLUDED.body, made_id = EXCLUDED.made_id,"
        " invocation_id = EXCLUDED.invocation_id, created_at = EXCLUDED.created_at, expires_at = EXCLUDED.expires_at",
        (
            claim.organization_id, claim.operation_id, claim.key, claim.fingerprint, reply.status, reply.media_type,
            None if made_id else reply.body, made_id, invocation_id, now, None if for_good else now + KEPT_FOR,
        ),
    )  # fmt: skip


async def forget_expired(conn: AsyncConnection[Any], now: datetime) -> None:
    """Removes the replies whose time is over."""
    await conn.execute("DELETE FROM idempotency_record WHERE expires_at < %s", (now,))
