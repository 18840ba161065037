"""Where the files of an item may lie when a caller names them: own storage, or an address that the house reads from."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from geopera_server.domains.items.store import writing as store
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, Location

MAX_HREF = 2_000


def check_web_address(ctx: Context, href: str, loc: Location) -> None:
    """Raises InvalidInput (`url_not_allowed`) unless an address that a caller named is one that the house reads from."""
    if len(href) > MAX_HREF:
        raise _refused(f"This address has more than {MAX_HREF:,} characters.", loc)
    refusal = ctx.addresses.refusal_of(href)
    if refusal is not None:
        raise _refused(f"This address {refusal}.", loc)


async def stored_file(ctx: Context, href: str, loc: Location) -> dict[str, Any] | None:
    """Returns what is known of a file that a caller named: None for one at an address that the house reads from.

    A path is that of a file in own storage which a live asset of the caller's organization has. Raises InvalidInput
    (`url_not_allowed`) for every other path, whether or not somebody has a file there, and for other addresses.
    """
    if "://" in href:
        check_web_address(ctx, href, loc)
        return None
    row = await store.asset_at(ctx.conn, ctx.organization_id, href)
    if row is None:
        raise _refused(
            "This is neither an https address nor the path of a file of yours, as the href of an asset shows it.", loc
        )
    return row


def file_name_of(href: str, otherwise: str) -> str:
    """Returns the last part of an address's path, which is what a download is called."""
    return PurePosixPath(unquote(urlsplit(href).path)).name[:255] or otherwise


def _refused(msg: str, loc: Location) -> InvalidInput:
    return InvalidInput(msg, loc=loc, code="url_not_allowed")
