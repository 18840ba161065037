"""What may be shared, and by whom."""

from __future__ import annotations

from typing import Literal

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import reads_everywhere, require_project_write
from geopera_server.domains.sharing.store import links as store
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id

TargetType = Literal["item", "collection"]


async def require_sharable(conn: Connection, principal: Principal, target_type: TargetType, target_id: str) -> Row:
    """Returns an item or collection that the caller may change, kept from being deleted until the transaction ends.

    Raises NotFound, Denied for who may only read it, Gone for an item whose files are gone.
    """
    if not is_id(target_id):
        raise NotFound(target_type)
    found = store.item_to_share if target_type == "item" else store.collection_to_share
    everywhere = reads_everywhere(principal)
    row = await found(conn, target_id, organization_id=principal.organization_id, everywhere=everywhere)
    if row is None:
        raise NotFound(target_type)
    await require_change(conn, principal, row["project_id"])
    if row["lifecycle_state"] == "expired":
        raise Gone("This item has expired and its files are gone. Order it again to share it.", code="retention_expired")
    return row


async def require_change(conn: Connection, principal: Principal, project_id: str) -> None:
    """P-WRITE on the project of what is shared, or a service; raises NotFound or Denied."""
    if principal.kind != "service":
        await require_project_write(conn, principal, project_id)
