"""RFC 8628: a program without a browser shows a short code, and a human allows it on any other screen."""

from __future__ import annotations

import re
import secrets
from datetime import datetime, timedelta
from typing import Any

from geopera_server.db.pool import Row
from geopera_server.domains.identity.oauth.clients import allow_grant
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_grant
from geopera_server.domains.identity.oauth.realm import REALM_PATH, Exchange, Realm, new_secret
from geopera_server.domains.identity.oauth.rfc7636_pkce import check_verifier, read_challenge
from geopera_server.domains.identity.oauth.sessions import TokenReply, narrowing, open_session
from geopera_server.domains.identity.store import grants

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:device_code"
DEVICE_PAGE = f"{REALM_PATH}/device"
LIFETIME = timedelta(minutes=10)
INTERVAL_S = 5
SLOW_DOWN_S = 5
# A client that waits exactly one interval arrives a little early now and then.
EARLY_BY = timedelta(seconds=1)
# Consonants alone: no word can come out, and no letter looks like a digit (section 6.1).
USER_CODE_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"
USER_CODE_LENGTH = 8


async def begin(realm: Realm, exchange: Exchange) -> dict[str, Any]:
    """Returns the codes and addresses of a new device request (section 3.2)."""
    allow_grant(exchange.client, GRANT_TYPE)
    challenge = read_challenge(exchange.form)
    narrowed = narrowing(exchange)
    device_code, user_code = new_secret(), new_user_code()
    row = {
        "device_code_hash": realm.digest("device", device_code),
        "user_code": user_code,
        "client_id": exchange.client.id,
        "scopes": None if narrowed is None else sorted(narrowed),
        "code_challenge": challenge,
        "interval_s": INTERVAL_S,
        "at": exchange.at,
        "expires_at": exchange.at + LIFETIME,
    }
    async with realm.transaction() as conn:
        while not await grants.insert_device_grant(conn, row):
            row["user_code"] = user_code = new_user_code()
    page = exchange.issuer.removesuffix(REALM_PATH) + DEVICE_PAGE
    return {
        "device_code": device_code,
        "user_code": shown_user_code(user_code),
        "verification_uri": page,
        "verification_uri_complete": f"{page}?user_code={shown_user_code(user_code)}",
        "expires_in": int(LIFETIME.total_seconds()),
        "interval": INTERVAL_S,
    }


async def grant(realm: Realm, exchange: Exchange) -> TokenReply:
    """Returns tokens once a human has allowed the request.

    Raises OAuthError `authorization_pending`, `slow_down`, `access_denied`, `expired_token` (section 3.5), `invalid_grant`.
    """
    refusal: OAuthError
    async with realm.transaction() as conn:
        row = await grants.lock_device_grant(conn, realm.digest("device", exchange.required("device_code")))
        if row is None or row["client_id"] != exchange.client.id or row["status"] == "redeemed":
            raise invalid_grant("The device code is unknown, used, or belongs to another client.")
        device_code_hash = bytes(row["device_code_hash"])
        if row["status"] == "approved" and row["expires_at"] > exchange.at:
            if row["code_challenge"] is not None:
                check_verifier(row["code_challenge"], exchange.form.get("code_verifier"))
            _, reply = await open_session(
                realm,
                conn,
                exchange,
                user_id=row["user_id"],
                organization_id=row["organization_id"],
                narrowed_to=None if row["scopes"] is None else frozenset(row["scopes"]),
            )
            await grants.redeem_device_grant(conn, device_code_hash)
            return reply
        refusal, interval_s = _refusal(row, exchange.at)
        # Committed although the answer is an error: the next poll is held against it.
        await grants.note_poll(conn, device_code_hash, interval_s=interval_s, at=exchange.at)
    raise refusal


def _refusal(row: Row, at: datetime) -> tuple[OAuthError, int]:
    """Returns why there are no tokens yet, and how long the device has to wait until it asks again."""
    interval_s: int = row["interval_s"]
    if row["expires_at"] <= at:
        return OAuthError("expired_token", "Nobody entered the code in time. Begin again."), interval_s
    if row["status"] == "denied":
        return OAuthError("access_denied", "The request was denied."), interval_s
    last = row["last_polled_at"]
    if last is not None and at - last < timedelta(seconds=interval_s) - EARLY_BY:
        interval_s += SLOW_DOWN_S
        return OAuthError("slow_down", f"Ask only every {interval_s} s."), interval_s
    return OAuthError("authorization_pending", "Nobody has entered the code yet."), interval_s


def new_user_code() -> str:
    """Returns eight random letters: 34 bits, of which a guesser gets a few hundred tries in ten minutes."""
    return "".join(secrets.choice(USER_CODE_LETTERS) for _ in range(USER_CODE_LENGTH))


def shown_user_code(code: str) -> str:
    """Returns a user code as it is shown, `XXXX-XXXX`."""
    return f"{code[:4]}-{code[4:]}"


def read_user_code(typed: str) -> str:
    """Returns a user code as it is stored, however it was typed."""
    return re.sub(r"[^A-Z]", "", typed.upper())


async def waiting(realm: Realm, typed_code: str, at: datetime) -> Row | None:
    """Returns the undecided request behind a user code, or None."""
    async with realm.pool.connection() as conn:
        return await grants.waiting_device_grant(conn, read_user_code(typed_code), at)


async def decide(
    realm: Realm, user_code: str, *, approved: bool, user_id: str, organization_id: str | None, at: datetime
) -> bool:
    """Allows or denies an undecided request in a human's name; False when there is none any more."""
    async with realm.transaction() as conn:
        return await grants.decide_device_grant(
            conn,
            user_code,
            status="approved" if approved else "denied",
            user_id=user_id,
            organization_id=organization_id,
            at=at,
        )
