"""Items as STAC features, kept as text between searches: what changes with time and caller is put in when they are read.

`as_stac` makes every feature. What it makes is kept with two marks, control characters that JSON never holds as such: one where
the address that links begin with goes, one where a file's signed link does. A feature is kept once its lineage is sealed, since
until then its provenance still changes.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.items.featured import stac_rows_of
from geopera_server.domains.items.rules import link_expiry
from geopera_server.domains.items.stac import as_stac
from geopera_server.domains.stac import store
from geopera_server.ports import Links
from geopera_server.values.encoding import dumps

_BASE, _FILE = "\x01", "\x02"


class _Marks:
    """Stands in for the links of a deployment while a feature is made, and remembers the files that it linked to."""

    def __init__(self) -> None:
        self.base_url = secrets.token_hex(16)
        self.file = secrets.token_hex(16)
        self.files: list[list[str]] = []

    def download(self, path: str, *, file_name: str, media_type: str, expires_at: datetime) -> str:  # noqa: ARG002
        self.files.append([path, file_name, media_type])
        return self.base_url + self.file

    def seal(self, text: str) -> str:
        raise NotImplementedError

    def unseal(self, token: str) -> str | None:
        raise NotImplementedError


async def features_of(
    conn: Connection, organization_id: str, rows: Sequence[Row], *, links: Links, base_url: str, at: datetime
) -> list[bytes]:
    """Returns the features of a page's rows as JSON texts, in their order; links to files live 900 s from `at`.

    An item that has gone since the search is left out.
    """
    kept = {row["id"]: (row["body"], row["files"]) for row in rows if row["body"] is not None}
    missing = [row["id"] for row in rows if row["body"] is None]
    if missing:
        kept.update(await _made(conn, organization_id, missing, at))
    address = orjson.dumps(base_url).decode()[1:-1]
    return [_finished(*kept[row["id"]], links, address, at).encode() for row in rows if row["id"] in kept]


def _finished(body: str, files: Sequence[Sequence[str]] | None, links: Links, address: str, at: datetime) -> str:
    if files:
        first, *rest = body.split(_FILE)
        signed = (_signed(links, *file, at=at) for file in files)
        body = first + "".join(link + after for link, after in zip(signed, rest, strict=True))
    return body.replace(_BASE, address)


def _signed(links: Links, path: str, file_name: str, media_type: str, *, at: datetime) -> str:
    link = links.download(path, file_name=file_name, media_type=media_type, expires_at=link_expiry(at))
    return link.removeprefix(links.base_url)


async def _made(conn: Connection, organization_id: str, ids: Sequence[str], at: datetime) -> dict[str, tuple[str, Any]]:
    # The versions are read before the rows: what changes in between is made again next time.
    versions = await store.versions_of(conn, organization_id, ids)
    made: dict[str, tuple[str, Any]] = {}
    lasting = []
    for row, assets, origin in await stac_rows_of(conn, organization_id, ids):
        body, files = _with_marks(row, assets, origin, at)
        made[row["id"]] = (body, files)
        if origin is not None and origin["hash"] is not None and row["id"] in versions:
            lasting.append({"item_id": row["id"], "version": versions[row["id"]], "body": body, "files": files})
    if lasting:
        await store.keep_features(conn, organization_id, lasting)
    return made


def _with_marks(row: Row, assets: Sequence[Row], origin: Row | None, at: datetime) -> tuple[str, list[list[str]]]:
    marks = _Marks()
    text = dumps(as_stac(row, assets, origin=origin, links=marks, base_url=marks.base_url, at=at)).decode()
    return text.replace(marks.base_url + marks.file, _BASE + _FILE).replace(marks.base_url, _BASE), marks.files
