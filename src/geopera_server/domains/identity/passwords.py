"""Hashes and checks passwords with Argon2id (RFC 9106), away from the event loop and not too many at once."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.profiles import RFC_9106_LOW_MEMORY

from geopera_server.domains.identity.rules import comparable_password

# Each hash takes 64 MiB and a core for some 100 ms: a burst of sign-ins waits in line instead of taking all memory.
_THREADS = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
_HASHER = PasswordHasher.from_parameters(RFC_9106_LOW_MEMORY)


async def hashed(password: str) -> str:
    """Returns the hash to store, salt and parameters included."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, hash_now, password)


def hash_now(password: str) -> str:
    """Returns the hash to store, blocking the caller meanwhile."""
    return _HASHER.hash(comparable_password(password))


async def matches(stored_hash: str | None, password: str) -> bool:
    """Says whether the password is right; takes as long for nobody's password (None) as for somebody's."""
    return await asyncio.get_running_loop().run_in_executor(_THREADS, _matches, stored_hash, password)


def _matches(stored_hash: str | None, password: str) -> bool:
    try:
        _HASHER.verify(stored_hash or _nobodys_hash(), comparable_password(password))
    except (VerificationError, InvalidHashError):
        return False
    return stored_hash is not None


@functools.cache
def _nobodys_hash() -> str:
    return hash_now("a password that nobody has")
