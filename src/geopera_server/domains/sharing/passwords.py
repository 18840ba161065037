"""Hashes and checks the passwords of share links with Argon2id (RFC 9106), away from the event loop and one at a time.

The passwords are short, are typed by visitors, and travel with a token that nobody can guess; so the parameters are the
smallest that OWASP's password storage guide names (19 MiB, two passes), some 20 ms of a core. A line of their own keeps
visitors from holding up sign-ins.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import secrets
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from geopera_server.domains.identity.rules import comparable_password

PROVEN_FOR = timedelta(minutes=10)
MOST_PROVEN = 2_000

_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="share-argon2")
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


async def hashed(password: str) -> str:
    """Returns the hash to store, salt and parameters included."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _HASHER.hash, comparable_password(password))


async def matches(stored_hash: str | None, password: str) -> bool:
    """Says whether the password is right; takes as long for nobody's password (None) as for somebody's."""
    return await asyncio.get_running_loop().run_in_executor(_THREAD, _matches, stored_hash, password)


def _matches(stored_hash: str | None, password: str) -> bool:
    try:
        _HASHER.verify(stored_hash or _nobodys_hash(), comparable_password(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored_hash is not None


@functools.cache
def _nobodys_hash() -> str:
    return _HASHER.hash("a password that nobody has")


class Proven:
    """Remembers for minutes which passwords were right, as digests that mean nothing outside this process.

    A map that sends the password with each of its tiles would otherwise cost a hash for each.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._until: OrderedDict[bytes, datetime] = OrderedDict()

    def remember(self, stored_hash: str, password: str, at: datetime) -> None:
        """Notes that this password is the one of this hash."""
        self._until[self._digest(stored_hash, password)] = at + PROVEN_FOR
        while len(self._until) > MOST_PROVEN:
            self._until.popitem(last=False)

    def holds(self, stored_hash: str, password: str, at: datetime) -> bool:
        """Says whether this was noted a short while ago."""
        until = self._until.get(self._digest(stored_hash, password))
        return until is not None and at < until <= at + PROVEN_FOR

    def _digest(self, stored_hash: str, password: str) -> bytes:
        text = f"{stored_hash}\n{comparable_password(password)}".encode()
        return hashlib.blake2b(text, key=self._key, digest_size=32).digest()
