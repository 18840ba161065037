"""Who holds a ticket for tiles, as far as the rows say that it is still good."""

from __future__ import annotations

from datetime import datetime

from geopera_server.db.pool import Connection
from geopera_server.domains.sharing import rules
from geopera_server.domains.sharing.store import keys as store
from geopera_server.kernel import tickets
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.ports import Links


async def ticket_holder(conn: Connection, links: Links, text: str, at: datetime) -> Principal:
    """Returns who may call tile operations with a read ticket or a tile key: nobody but on what it is for.

    Raises NotFound for anything else, Gone for one that is over: expired, revoked, its target deleted, or its organization
    suspended. Tickets of share links are for `share.tile.render`, which counts for the sharer, and not for this.
    """
    ticket = tickets.opened(links, text, at)
    if ticket.kind == "share":
        raise NotFound(detail="This is no ticket of this server. Get a new address for these tiles.")
    if ticket.kind == "key":
        assert ticket.key_id is not None
        key = await store.shown_key(conn, ticket.organization_id, ticket.key_id)
        if key is None or rules.is_over(key, at) or ticket.target != (key["target_type"], key["target_id"]):
            raise Gone("This tile key has expired or was revoked. Ask whoever sent it for a new one.", code="share_expired")
    return tickets.principal_of(ticket)
