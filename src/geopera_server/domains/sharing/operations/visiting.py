"""What visitors of a share see: its target."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from geopera_server.db.pool import Connection
from geopera_server.domains.sharing import rules
from geopera_server.domains.sharing.presenting import as_shared_file, as_shared_item
from geopera_server.domains.sharing.shapes import SharedCollection, SharedItem, Visualization
from geopera_server.domains.sharing.store import visits as store
from geopera_server.domains.sharing.visiting import Visit, visited
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.kernel.operation import operation

_EXAMPLE = {"token": "q3Vw0Zk1m5cF2sYy8dN7rT4uJ6aL9hXbE0gPiKoQvWM", "password": "for the whole crew"}


class ShareLinkValidateInput(BaseModel):
    """A link's token and the password that goes with it."""

    token: str
    password: str = ""


class ShareLinkValidateOutput(BaseModel):
    """What is shared, and how far."""

    target_type: str
    permission: str
    target: dict[str, Any]


@operation("share.link.validate", effect="read", scope="shares:read", public=True, example=_EXAMPLE)
async def validate(outside: Outside, given: ShareLinkValidateInput) -> ShareLinkValidateOutput:
    """Opens a share link with its password and returns what it shares, with addresses that work for a day at most.

    Counts as an access. A link with permission download gives addresses of the files too.
    """
    visit = await visited(outside, given.token, given.password)
    async with outside.connection() as conn:
        target = await _target(conn, outside, visit)
        await store.count_access(
            conn,
            visit.link["id"],
            at=outside.now,
            kind="validate",
            ip_prefix=rules.ip_prefix(outside.asked.ip),
            kept=rules.ACCESSES_KEPT,
        )
    return ShareLinkValidateOutput(
        target_type=visit.link["target_type"], permission=visit.link["permission"], target={**target}
    )


async def _target(conn: Connection, outside: Outside, visit: Visit) -> SharedItem | SharedCollection:
    if visit.link["target_type"] == "item":
        items = await _items(conn, outside, visit)
        if not items:
            raise Gone("This item has expired and its files are gone.", code="retention_expired")
        return items[0]
    collection = await store.collection_shown(conn, visit.link)
    if collection is None:
        raise NotFound("share link")
    return SharedCollection(
        id=collection["id"],
        name=collection["name"],
        description=collection["description"],
        items=await _items(conn, outside, visit),
        item_count=await store.shown_items_total(conn, visit.link),
    )


async def _items(conn: Connection, outside: Outside, visit: Visit) -> list[SharedItem]:
    """Returns the items of the link whose files are still there, newest first."""
    rows = await store.shown_items(conn, visit.link, rules.MOST_ITEMS_SHOWN)
    ids = [row["id"] for row in rows]
    base_url, ticket = outside.links.base_url, visit.ticket(outside.links)
    profiles = await store.visualizations_of(conn, visit.organization_id, ids)
    with_files = visit.link["permission"] == "download"
    files = await store.files_of(conn, visit.organization_id, ids) if with_files else {}
    shown = []
    for row in rows:
        ways = [Visualization(id=profile["id"], label=profile["name"]) for profile in profiles[row["id"]]]
        item = as_shared_item(row, base_url=base_url, ticket=ticket, until=visit.until, visualizations=ways)
        if with_files:
            item["assets"] = [as_shared_file(file, base_url=base_url, ticket=ticket) for file in files[row["id"]]]
        shown.append(item)
    return shown
