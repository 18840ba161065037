"""Hashes and checks the passwords of share links with Argon2id (RFC 9106), away from the event loop and one at a time.

The passwords are short, are typed by visitors, and travel with a token that nobody can guess; so the parameters are the
smallest that OWASP's password storage guide names (19 MiB, two passes), some 20 ms of a core. A line of their own keeps
visitors from holding up sign-ins.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import OrderedDict
from datetime import datetime, timedelta

from argon2 import PasswordHasher

from geopera_server.domains.identity.passwords import Passwords
from geopera_server.domains.identity.rules import comparable_password

PROVEN_FOR = timedelta(minutes=10)
MOST_PROVEN = 2_000

_OF_SHARES = Passwords(PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1), threads=1, name="share-argon2")
hashed, matches = _OF_SHARES.hashed, _OF_SHARES.matches


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
