"""Where the raster behind an address lies, for those who may read it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit
from weakref import WeakKeyDictionary

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import reads_everywhere
from geopera_server.domains.items.rules import EXPIRED
from geopera_server.domains.tiles import store
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import Gone, InvalidInput, NotFound
from geopera_server.ports.store import ObjectStore
from geopera_server.values.periods import month_of

if TYPE_CHECKING:
    from geopera_server.raster.readers import Target

OWN_FILES = "/files/"
OWN_PATHS = "projects/"
MAX_URL = 2_000
SEEN_AGAIN_AFTER_S = 600
"""A file elsewhere may change without telling: its pixels are used for this long at most."""

SIGNED_FOR_S = 3_600
_USED_FOR = timedelta(seconds=SIGNED_FOR_S // 2)
_MOST_SIGNED = 2_000
# A signed address is another one each time, and what is open of a file is found again by its address.
_signed: WeakKeyDictionary[ObjectStore, OrderedDict[str, tuple[str, datetime]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A raster to read, and the item whose file it is, if it is one of own storage."""

    target: Target
    item: Row | None = None


async def target_of(outside: Outside, url: str) -> Located:
    """Returns the raster at an address that a caller named: a file of an item they may read, or one on a listed host.

    Raises NotFound for files of nobody and of others, Gone for those of expired items, InvalidInput (`url_not_allowed`) else.
    """
    if len(url) > MAX_URL:
        raise _refused(f"has more than {MAX_URL:,} characters")
    path = _own_path(url, outside.links.base_url)
    if path is None:
        return Located(target=_elsewhere(outside, url, version="", loc=("url",)))
    principal = outside.principal
    async with outside.connection() as conn:
        row = await store.item_at(
            conn,
            path,
            organization_id=principal.organization_id,
            everywhere=reads_everywhere(principal),
            month=month_of(outside.now).start.date(),
        )
    if row is None or not principal.reaches(row["id"], row["collection_id"]):
        raise NotFound("raster")
    if row["lifecycle_state"] == EXPIRED:
        raise expired()
    return Located(target=await target_of_asset(outside, {**row, "id": row["asset_id"]}), item=row)


async def target_of_asset(outside: Outside, asset: Mapping[str, Any]) -> Target:
    """Returns the raster of an asset that the caller has been let into; raises InvalidInput for one at a refused address."""
    from geopera_server.raster.readers import Target  # noqa: PLC0415

    version = f"{asset['id']}:{asset['checksum'] or asset['updated_at']}"
    if asset["external"]:
        return _elsewhere(outside, asset["href"], version=version, loc=("item_id",))
    return Target(await _address(outside, asset["href"]), version)


def host_of(target: Target) -> str | None:
    """Returns the host elsewhere that a raster is read from; None for own storage."""
    return urlsplit(target.href).hostname if target.way else None


def expired() -> Gone:
    """Returns the refusal of pictures of an item whose time is over."""
    return Gone(
        "The files of this item were kept until it expired. Order it again to have them back.", code="retention_expired"
    )


def _own_path(url: str, base_url: str) -> str | None:
    """Returns the path in own storage that an address means; None when it means none."""
    if url.startswith(base_url + OWN_FILES):
        return unquote(urlsplit(url).path.removeprefix(urlsplit(base_url).path + OWN_FILES))
    return url if url.startswith(OWN_PATHS) else None


def _elsewhere(outside: Outside, url: str, *, version: str, loc: tuple[str | int, ...]) -> Target:
    from geopera_server.raster.readers import Target  # noqa: PLC0415

    refusal = outside.ports.addresses.refusal_of(url)
    if refusal is not None:
        raise _refused(refusal, loc=loc)
    turn = int(outside.now.timestamp()) // SEEN_AGAIN_AFTER_S
    named = version or hashlib.blake2b(url.encode(), digest_size=16).hexdigest()
    return Target.on_way(url, f"{named}:{turn}", outside.ports.addresses.way_to_listed())


def _refused(why: str, *, loc: tuple[str | int, ...] = ("url",)) -> InvalidInput:
    return InvalidInput(f"This address {why}.", loc=loc, code="url_not_allowed")


async def _address(outside: Outside, path: str) -> str:
    known = _signed.setdefault(outside.ports.store, OrderedDict())
    address, until = known.get(path, ("", outside.now))
    if until > outside.now:
        return address
    address = await outside.ports.store.address(path, expires_in_s=SIGNED_FOR_S)
    if "://" in address:
        known[path] = (address, outside.now + _USED_FOR)
        known.move_to_end(path)
        while len(known) > _MOST_SIGNED:
            known.popitem(last=False)
    return address
