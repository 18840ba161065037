"""The door of a share: a token with its password, or a ticket that was given out for them.

What a visitor may see hangs on the link alone: on its row, its target, its project and its organization, all asked in one
query for every tile. So a link that is revoked is revoked for every ticket too.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from weakref import WeakValueDictionary

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.sharing import passwords, rules
from geopera_server.domains.sharing.store import visits as store
from geopera_server.kernel import tickets
from geopera_server.kernel.context import Asked, Outside
from geopera_server.kernel.errors import Denied, Gone, InvalidInput, NotFound, RateLimited
from geopera_server.kernel.principal import Principal
from geopera_server.ports import Links, Secrets
from geopera_server.values.ids import is_id, new_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """A visitor who was let in; `until` is when tickets end that are given to this visitor."""

    link: Row
    until: datetime

    @property
    def organization_id(self) -> str:
        """Whose share it is; the visitor belongs to nobody."""
        return str(self.link["organization_id"])

    @property
    def holder(self) -> Principal:
        """The visitor as other domains know them: let into the target and nothing beside it."""
        return Principal(
            kind="guest",
            id=self.link["id"],
            organization_id=self.organization_id,
            only=frozenset(),
            target=(self.link["target_type"], self.link["target_id"]),
        )

    def item_id(self, wanted: str | None) -> str:
        """Returns which item is looked at: the link's own, or the wanted one of a collection.

        Raises NotFound for another one than the link's own, InvalidInput where one has to be named.
        """
        if self.link["target_type"] == "item":
            if wanted is not None and wanted.lower() != self.link["target_id"]:
                raise NotFound("item")
            return str(self.link["target_id"])
        if wanted is None:
            raise InvalidInput("This link shares a collection. Say which of its items with item_id.", loc=("item_id",))
        if not is_id(wanted):
            raise NotFound("item")
        return wanted.lower()

    def ticket(self, links: Links) -> str:
        """Returns what stands for token and password in addresses; one got with a ticket lives no longer than that one."""
        is_item = self.link["target_type"] == "item"
        return tickets.issue(
            links,
            kind="share",
            organization_id=self.organization_id,
            item_id=self.link["target_id"] if is_item else None,
            collection_id=None if is_item else self.link["target_id"],
            expires_at=self.until,
            key_id=self.link["id"],
        )


async def visited(outside: Outside, token: str, password: str, *, slowly: bool = True) -> Visit:
    """Lets in whoever holds a ticket, or a token with its password.

    Raises NotFound for an unknown token or ticket, Gone for a share or ticket that is over, Denied for a wrong password,
    RateLimited after too many of those. With `slowly` an unknown token takes as long as a wrong password does.
    """
    if tickets.looks_like_ticket(token):
        async with outside.connection() as conn:
            return await visited_with_ticket(conn, outside.links, token, outside.now)
    link = await _link_with(outside, token)
    if link is None:
        if slowly and rules.has_token_form(token):
            await passwords.matches(None, password)
        raise NotFound("share link")
    _require_alive(link, outside.now)
    await _prove(outside, link, password)
    return Visit(link=link, until=rules.ticket_ends(link, outside.now))


async def visited_with_ticket(conn: Connection, links: Links, text: str, at: datetime) -> Visit:
    """Lets in whoever holds a ticket of a link that lives; raises NotFound or Gone."""
    ticket = tickets.opened(links, text, at)
    if ticket.kind != "share" or ticket.key_id is None:
        raise NotFound("share link")
    link = await store.link_with_id(conn, ticket.organization_id, ticket.key_id)
    if link is None:
        raise _over()
    _require_alive(link, at)
    if ticket.target != (link["target_type"], link["target_id"]):
        raise NotFound("share link")
    return Visit(link=link, until=ticket.expires_at)


def token_digest(secrets: Secrets, token: str) -> bytes:
    """Returns what of a token is kept."""
    return secrets.digest("share_tokens", token)


def visitor_of(secrets: Secrets, asked: Asked) -> bytes:
    """Returns what of a visitor's address is kept for as long as wrong passwords count."""
    return secrets.digest("share_attempts", rules.visitor_network(asked.ip))


async def _link_with(outside: Outside, token: str) -> Row | None:
    if not rules.has_token_form(token):
        return None
    async with outside.connection() as conn:
        return await store.link_with_token(conn, token_digest(outside.secrets, token))


async def _prove(outside: Outside, link: Row, password: str) -> None:
    """Checks the password; a wrong one counts, and however many come at once, no more are looked at than are free.

    A try counts from before it is looked at, and is given back when it was right. Those of one visitor wait for each other,
    so that a map which asks for many tiles at once is not taken for somebody who guesses.
    """
    visitor, stored = visitor_of(outside.secrets, outside.asked), link["password_hash"]
    async with _turn(link["id"], visitor):
        if _proven().holds(stored, password, outside.now):
            async with outside.connection() as conn:
                _require_tries(await store.tries_of(conn, link["id"], visitor), outside.now)
            return
        try_id = await _take_try(outside, link["id"], visitor)
        if not await passwords.matches(stored, password):
            raise Denied("This is not the password of this link. Ask whoever sent it.", code="invalid_share_password")
        _proven().remember(stored, password, outside.now)
        async with outside.connection() as conn:
            await store.give_try_back(conn, link["id"], visitor, try_id)


async def _take_try(outside: Outside, link_id: str, visitor: bytes) -> str:
    at, try_id = outside.now, new_id()
    async with outside.connection() as conn:
        taken = await store.take_try(
            conn, link_id, visitor, try_id, at=at, since=at - rules.TRIES_COUNT_FOR, most=rules.FREE_TRIES
        )
        if not taken:
            raise _too_many(rules.wait_for_try_s(await store.tries_of(conn, link_id, visitor), at))
    return try_id


@functools.cache
def _proven() -> passwords.Proven:
    return passwords.Proven()


_TURNS: WeakValueDictionary[Any, asyncio.Lock] = WeakValueDictionary()


def _turn(link_id: str, visitor: bytes) -> asyncio.Lock:
    return _TURNS.setdefault((link_id, visitor), asyncio.Lock())


def _require_tries(tries: dict[str, float], at: datetime) -> None:
    if (wait_s := rules.wait_for_try_s(tries, at)) > 0:
        raise _too_many(wait_s)


def _require_alive(link: Row, at: datetime) -> None:
    if rules.is_over(link, at):
        raise _over()


def _over() -> Gone:
    return Gone("This link has expired or was revoked. Ask whoever sent it for a new one.", code="share_expired")


def _too_many(wait_s: int) -> RateLimited:
    retry_after_s = max(1, wait_s)
    return RateLimited(
        f"The password was wrong {rules.FREE_TRIES} times. Try again in {retry_after_s} s.",
        code="too_many_attempts",
        retry_after_s=retry_after_s,
    )
