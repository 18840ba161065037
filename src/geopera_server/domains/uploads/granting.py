"""Addresses that take the bytes of one file: what they hold is sealed, so whoever has one needs no other credential."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from urllib.parse import quote

import orjson

from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.ports import Links
from geopera_server.values.encoding import canonical

PATH = "/uploads"
_PURPOSE = "upload-file:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """That a file of an open session may be PUT with one content type until a moment, in whole seconds since 1970."""

    organization_id: str
    upload_id: str
    file_id: str
    content_type: str
    expires: int


def address(links: Links, grant: Grant, file_name: str) -> str:
    """Returns the address that stands for a grant; the file's name at its end is for people."""
    token = links.seal(_PURPOSE + canonical(asdict(grant)).decode())
    return f"{links.base_url}{PATH}/{token}/{quote(file_name)}"


def opened(links: Links, token: str, at: datetime) -> Grant:
    """Returns what an address stands for; raises NotFound for one that is none of ours, Gone for one whose time is over."""
    text = links.unseal(token)
    if text is None or not text.startswith(_PURPOSE):
        raise NotFound("upload address")
    grant = Grant(**orjson.loads(text.removeprefix(_PURPOSE)))
    if grant.expires <= at.timestamp():
        raise Gone("This upload address has expired. Ask uploads.signed_url for a fresh one; what has come is kept.")
    return grant
