"""Where an item says it comes from."""

from __future__ import annotations

from geopera_server.domains.items.store import writing as store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import NotFound
from geopera_server.kernel.lineage import Node
from geopera_server.values.ids import is_id


async def origins_named(ctx: Context, *, order_id: str | None, job_id: str | None, upload_id: str | None) -> list[Node]:
    """Returns the lineage parents that an item names; raises NotFound for one that is not of the caller's organization."""
    named = (("order", order_id), ("processing_job", job_id), ("upload", upload_id))
    parents = [(kind, entity_id.lower()) for kind, entity_id in named if entity_id is not None]
    for kind, entity_id in parents:
        if not is_id(entity_id) or not await _is_known(ctx, kind, entity_id):
            raise NotFound(kind.replace("_", " "))
    return parents


async def _is_known(ctx: Context, kind: str, entity_id: str) -> bool:
    if kind == "order":
        return await store.order_is_of(ctx.conn, ctx.organization_id, entity_id)
    if kind == "upload":
        return await store.upload_is_of(ctx.conn, ctx.organization_id, entity_id)
    return await store.is_in_lineage(ctx.conn, ctx.organization_id, kind, entity_id)
