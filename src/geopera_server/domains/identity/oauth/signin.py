"""Checks a human's password, slowly for everybody and not at all for whoever guesses.

A try is counted before it is checked, so that many at once cannot slip through, and for names that nobody has too, so that
neither the answer nor its time tells which accounts exist.
"""

from __future__ import annotations

import math
from datetime import datetime

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity import passwords, rules
from geopera_server.domains.identity.oauth.errors import OAuthError, invalid_grant, too_many_attempts
from geopera_server.domains.identity.oauth.realm import Realm
from geopera_server.domains.identity.store import users

MAX_LOGIN_LENGTH = 320


async def check_password(realm: Realm, login: str, password: str, at: datetime) -> Row:
    """Returns the human whose name and password these are.

    Raises OAuthError `invalid_grant`, or `too_many_attempts` while the account is locked.
    """
    login = login.strip()
    if len(login) > MAX_LOGIN_LENGTH or len(password) > rules.MAX_PASSWORD_LENGTH:
        raise _wrong()
    async with realm.transaction() as conn:
        user = await users.user_named(conn, login)
        subject = realm.digest("signin", login.lower() if user is None else user["id"])
        wait_s = await _count_guess(conn, subject, at)
    if wait_s is not None:
        raise too_many_attempts(wait_s)
    # No connection is held here: a hash takes as long as a hundred queries.
    right = await passwords.matches(None if user is None else user["password_hash"], password)
    if user is None or not right:
        raise _wrong()
    async with realm.transaction() as conn:
        await users.forget_guesses(conn, subject)
    if user["status"] != "active":
        raise invalid_grant("This account is disabled. Ask the operator of this server.")
    return user


async def _count_guess(conn: Connection, subject: bytes, at: datetime) -> int | None:
    """Counts a try; returns for how many seconds tries are refused, None when this one is taken."""
    failures = await users.count_guess(conn, subject, at=at, forgotten_before=at - rules.FAILURES_FORGOTTEN_AFTER)
    if failures is None:
        until = await users.locked_until(conn, subject)
        return 1 if until is None else max(1, math.ceil((until - at).total_seconds()))
    if lock := rules.lock_after(failures):
        await users.lock_until(conn, subject, at + lock)
    return None


def _wrong() -> OAuthError:
    return invalid_grant("The name or the password is wrong.")
