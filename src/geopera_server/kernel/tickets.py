"""Sealed statements that whoever holds this text may look at the tiles of one item, or of a collection's items, for a while.

A ticket is a capability for maps that can send no credential: it names an organization, a target and an end, and opens
nothing but tiles. It is sealed, not secret: whoever holds it can read it. A ticket of a share link or a tile key names that
row, and is good only as long as the row is: who opens one asks `sharing.entry` for that.
"""

from __future__ import annotations

import base64
import hmac
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.ports import Links

Kind = Literal["read", "share", "key"]

# What else is sealed with the same key is JSON, so that no cursor can be taken for a ticket nor a ticket for a cursor.
_MARK = "ticket-1"
_LETTERS: dict[Kind, str] = {"read": "r", "share": "s", "key": "k"}
_KINDS: dict[str, Kind] = {letter: kind for kind, letter in _LETTERS.items()}
_FORM = re.compile(r"[A-Za-z0-9_-]{8,1600}\.[A-Za-z0-9_-]{22}")
LONGEST_PROFILE = 255

TILE_OPERATIONS = frozenset(
    {
        "items.tile.render",
        "items.tile.tilejson",
        "items.tile.statistics",
        "items.tile.wmts_capabilities",
        "items.tile.wmts_get_tile",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """What a ticket says; `key_id` is the share link or tile key that it lives and dies with."""

    kind: Kind
    organization_id: str
    item_id: str | None
    collection_id: str | None
    expires_at: datetime
    key_id: str | None = None
    profile: str | None = None

    @property
    def target(self) -> tuple[str, str]:
        """The item that it is for, or the collection whose items it is for."""
        if self.item_id is not None:
            return "item", self.item_id
        assert self.collection_id is not None
        return "collection", self.collection_id


def issue(
    links: Links,
    *,
    kind: Kind,
    organization_id: str,
    item_id: str | None,
    collection_id: str | None,
    expires_at: datetime,
    key_id: str | None = None,
    profile: str | None = None,
) -> str:
    """Returns a ticket of url-safe characters without '/'; its end is cut to a whole second.

    Raises ValueError for one without target, for one of a link or key that names none, and for ids that are none.
    """
    if item_id is None and collection_id is None:
        raise ValueError("a ticket names an item or a collection")
    if (key_id is None) != (kind == "read"):
        raise ValueError("tickets of links and keys name theirs, read tickets name none")
    if profile is not None and len(profile) > LONGEST_PROFILE:
        raise ValueError(f"a profile's name has at most {LONGEST_PROFILE} characters")
    said = (
        _MARK,
        _LETTERS[kind],
        f"{int(expires_at.timestamp()):x}",
        *(_short(each) for each in (organization_id, item_id, collection_id, key_id)),
        "" if profile is None else f"p{profile}",
    )
    return links.seal("|".join(said))


def opened(links: Links, text: str, at: datetime) -> Ticket:
    """Returns what a ticket says; raises NotFound for anything that is no ticket of ours, Gone for one whose time is over."""
    ticket = _read(_unsealed(links, text))
    if ticket is None:
        raise NotFound(detail="This is no ticket of this server. Get a new address for these tiles.")
    if ticket.expires_at <= at:
        raise Gone("The time of this ticket is over. Get a new address for these tiles.")
    return ticket


def looks_like_ticket(text: str) -> bool:
    """Says whether a text has the form of a ticket, which no share token and no tile key has."""
    return _FORM.fullmatch(text) is not None


def principal_of(ticket: Ticket) -> Principal:
    """Returns who the holder of a ticket is: nobody known, let into the tile operations on what the ticket is for.

    `items.access.require_item_read` holds the target of the principal against the item; whoever finds items in another way
    asks `principal.reaches`.
    """
    return Principal(
        kind="guest",
        id=ticket.key_id,
        organization_id=ticket.organization_id,
        scopes=frozenset({"items:read"}),
        only=TILE_OPERATIONS,
        target=ticket.target,
    )


def _unsealed(links: Links, text: str) -> str | None:
    if not looks_like_ticket(text):
        return None
    said = links.unseal(text)
    # Base64 has several spellings of the same bytes; only the one that we wrote is ours.
    return said if said is not None and hmac.compare_digest(links.seal(said), text) else None


def _read(said: str | None) -> Ticket | None:
    parts = [] if said is None else said.split("|", 7)
    if len(parts) != 8 or parts[0] != _MARK:
        return None
    _, letter, ends, organization, item, collection, key, profile = parts
    return Ticket(
        kind=_KINDS[letter],
        organization_id=str(_long(organization)),
        item_id=_long(item),
        collection_id=_long(collection),
        expires_at=datetime.fromtimestamp(int(ends, 16), UTC),
        key_id=_long(key),
        profile=profile[1:] or None,
    )


def _short(entity_id: str | None) -> str:
    """Returns an id as 22 characters instead of 36; nothing for none."""
    return "" if entity_id is None else base64.urlsafe_b64encode(uuid.UUID(entity_id).bytes).decode().rstrip("=")


def _long(text: str) -> str | None:
    return str(uuid.UUID(bytes=base64.urlsafe_b64decode(text + "=="))) if text else None
