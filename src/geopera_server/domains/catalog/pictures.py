"""Where the preview pictures of a scene lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.domains.catalog.captures import CaptureProblem
from geopera_server.domains.catalog.lookup import find_captures
from geopera_server.domains.catalog.reading import shown_assets
from geopera_server.kernel.answers import Elsewhere
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import NotFound, Unavailable


async def picture(outside: Outside, host: str, image_id: str, names: Sequence[str]) -> Elsewhere:
    """Returns where the first of the named pictures lies.

    Raises NotFound where there is none, Unavailable for a host that gives no answer.
    """
    [found] = await find_captures(outside, [(host, image_id)], for_order=False)
    if isinstance(found, CaptureProblem):
        if found.code == "host_failed":
            code = "upstream_timeout" if found.timed_out else "upstream_error"
            raise Unavailable(found.message, code=code, retry_after_s=30)
        raise NotFound(detail=found.message)
    shown = shown_assets(found.assets, open_data=found.open_data)
    asset = next((shown[name] for name in names if name in shown), None)
    if asset is None:
        raise NotFound(detail=f"{found.id} has no preview at {found.host}.")
    return Elsewhere(url=asset["href"], body=_told(asset))


def _told(asset: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "url": asset["href"],
        "redirect": 307,
        "media_type": asset.get("type") or "image/jpeg",
        "expires_at": None,
    }
