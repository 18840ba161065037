"""How much more an organization may store; whoever is about to store something asks here first."""

from __future__ import annotations

from geopera_server.db.pool import Connection
from geopera_server.domains.usage import rules
from geopera_server.domains.usage.store import storage as store
from geopera_server.kernel.errors import PaymentRequired


async def require_storage(conn: Connection, organization_id: str, more_bytes: int) -> None:
    """Raises PaymentRequired (`storage_quota_exceeded`) unless the plan lets so many bytes be stored beside the present ones.

    What uploads have reserved counts as stored. Plans that charge for more storage have no limit. Others who store, reserve or
    free something for the same organization wait until the transaction ends; outside a transaction the answer is a forecast.
    """
    if more_bytes <= 0:
        return
    room = await store.lock_room(conn, organization_id)
    if room is None or rules.storage_is_open(room, more_bytes):
        return
    taken, limit = room["bytes"] + room["reserved_bytes"], room["included"]["storage_bytes"]
    raise PaymentRequired(
        f"This needs {more_bytes:,} bytes. Your plan includes {limit:,} bytes of storage and {taken:,} are taken or reserved."
        " Delete items you no longer need, or change to a larger plan.",
        code="storage_quota_exceeded",
        limit_bytes=limit,
        taken_bytes=taken,
        needed_bytes=more_bytes,
    )
