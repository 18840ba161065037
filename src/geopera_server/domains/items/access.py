"""Who may see an item: whoever may read the project it is in."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import reads_everywhere
from geopera_server.domains.items import store
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id


async def require_item_read(conn: Connection, principal: Principal, item_id: str) -> Row:
    """P-READ: returns a live item of a live project of the caller's organization; operators read everywhere.

    Raises NotFound for everything else, deleted items included.
    """
    if not is_id(item_id):
        raise NotFound("item")
    row = await store.live_item(
        conn, item_id, organization_id=principal.organization_id, everywhere=reads_everywhere(principal)
    )
    if row is None:
        raise NotFound("item")
    return row


async def require_collection_in(conn: Connection, project_id: str, collection_id: str) -> str:
    """Returns the id of a live collection of exactly this project, which the caller has been let into; raises NotFound."""
    if not is_id(collection_id) or not await store.collection_is_in(conn, project_id, collection_id):
        raise NotFound("collection")
    return collection_id
