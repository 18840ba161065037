"""Hashes and checks passwords with Argon2id (RFC 9106), away from the event loop and not too many at once."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from geopera_server.domains.identity.rules import comparable_password


class Passwords:
    """One kind of password: how dear its hashes are, and how many are made at once."""

    def __init__(self, hasher: PasswordHasher, *, threads: int, name: str) -> None:
        self._hasher = hasher
        self._threads = ThreadPoolExecutor(max_workers=threads, thread_name_prefix=name)

    async def hashed(self, password: str) -> str:
        """Returns the hash to store, salt and parameters included."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self.hash_now, password)

    def hash_now(self, password: str) -> str:
        """Returns the hash to store, blocking the caller meanwhile."""
        return self._hasher.hash(comparable_password(password))

    async def matches(self, stored_hash: str | None, password: str) -> bool:
        """Says whether the password is right; takes as long for nobody's password (None) as for somebody's."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._matches, stored_hash, password)

    def _matches(self, stored_hash: str | None, password: str) -> bool:
        try:
            self._hasher.verify(stored_hash or self._nobodys_hash, comparable_password(password))
        except (VerificationError, InvalidHashError):
            return False
        return stored_hash is not None

    @functools.cached_property
    def _nobodys_hash(self) -> str:
        return self.hash_now("a password that nobody has")


# Each hash takes 64 MiB and a core for some 100 ms: a burst of sign-ins waits in line instead of taking all memory.
_OF_ACCOUNTS = Passwords(PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY), threads=2, name="argon2")
hashed, hash_now, matches = _OF_ACCOUNTS.hashed, _OF_ACCOUNTS.hash_now, _OF_ACCOUNTS.matches
