"""Which files the platform reads when it delivers; web addresses are judged on the way that they are read on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from geopera_server.raster.errors import SourceRefused


def checked_source(href: str, *, roots: Sequence[Path]) -> str:
    """Returns the address to read; raises SourceRefused for one that must not be read.

    Files have to lie below a source folder, whatever links lead there.
    """
    parts = urlsplit(href)
    if parts.scheme in {"http", "https"}:
        return href
    if parts.scheme not in {"", "file"}:
        raise SourceRefused(href, "is no http(s) address or file")
    resolved = Path(unquote(parts.path)).resolve()
    if not any(resolved.is_relative_to(root) for root in roots):
        raise SourceRefused(href, "does not lie in a source folder of this server; set GEOPERA_SOURCE_ROOTS")
    return str(resolved)
