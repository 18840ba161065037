"""Who may see and change an item: whoever may read or write the project it is in."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import reads_everywhere, require_project_write
from geopera_server.domains.items import store
from geopera_server.domains.items.store import changing
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
    if row is None or not principal.reaches(row["id"], row["collection_id"]):
        raise NotFound("item")
    return row


async def require_item_write(conn: Connection, principal: Principal, item_id: str, *, new_data: bool = False) -> Row:
    """P-WRITE: returns a live item, which nobody else changes before the transaction ends. Raises NotFound or Denied.

    With `new_data` an item of an archived project raises Conflict.
    """
    row = await require_item_read(conn, principal, item_id)
    await require_project_write(conn, principal, row["project_id"], new_data=new_data)
    locked = await changing.lock_item(conn, row["organization_id"], item_id)
    if locked is None:
        raise NotFound("item")
    return {**locked, "collection_name": row["collection_name"]}


async def require_collection_read(conn: Connection, principal: Principal, collection_id: str) -> tuple[str, str]:
    """P-READ: returns the ids of a live collection and of its project; raises NotFound for everything else."""
    if not is_id(collection_id):
        raise NotFound("collection")
    found = await store.live_collection(
        conn, collection_id, organization_id=principal.organization_id, everywhere=reads_everywhere(principal)
    )
    if found is None:
        raise NotFound("collection")
    return found["id"], found["project_id"]


async def require_collection_in(conn: Connection, project_id: str, collection_id: str) -> str:
    """Returns the id of a live collection of exactly this project, which the caller has been let into; raises NotFound."""
    if not is_id(collection_id) or not await store.collection_is_in(conn, project_id, collection_id):
        raise NotFound("collection")
    return collection_id
