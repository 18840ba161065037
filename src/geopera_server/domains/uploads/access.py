"""Who may see and drive an upload session: whoever may read or write the project it is in."""

from __future__ import annotations

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import reads_everywhere, require_project_write
from geopera_server.domains.uploads.store import sessions
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id


async def require_upload_read(conn: Connection, principal: Principal, upload_id: str) -> Row:
    """P-READ: returns a session in a live project of the caller's organization; operators read everywhere.

    Raises NotFound for everything else.
    """
    if not is_id(upload_id):
        raise NotFound("upload")
    row = await sessions.upload_of(
        conn, upload_id, organization_id=principal.organization_id, everywhere=reads_everywhere(principal)
    )
    if row is None:
        raise NotFound("upload")
    return row


async def require_upload_write(conn: Connection, principal: Principal, upload_id: str, *, new_data: bool = False) -> Row:
    """P-WRITE: returns a session, which nobody else changes before the transaction ends. Raises NotFound or Denied.

    With `new_data` a session in an archived project raises Conflict.
    """
    found = await require_upload_read(conn, principal, upload_id)
    await require_project_write(conn, principal, found["project_id"], new_data=new_data)
    return await locked_upload(conn, found["organization_id"], upload_id)


async def locked_upload(conn: Connection, organization_id: str, upload_id: str) -> Row:
    """Returns a session of the organization, which nobody else changes before the transaction ends; raises NotFound."""
    row = await sessions.lock_upload(conn, organization_id, upload_id) if is_id(upload_id) else None
    if row is None:
        raise NotFound("upload")
    return row
