"""Which file of an item a picture of it is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from geopera_server.db.pool import Row
from geopera_server.kernel.errors import InvalidInput, NotFound

_ALWAYS_RASTERS = frozenset({"image/tiff", "image/jp2", "image/vnd.stac.geotiff"})
_BESIDES = frozenset({"thumbnail", "overview", "metadata"})


def is_raster(asset: Mapping[str, Any]) -> bool:
    """Says whether tiles can be made of an asset: its type is an image with a place on Earth, or it was measured as one."""
    media_type = str(asset["media_type"]).partition(";")[0].strip().lower()
    return media_type in _ALWAYS_RASTERS or (asset["band_count"] is not None and media_type.startswith("image/"))


def is_data(asset: Mapping[str, Any]) -> bool:
    """Says whether an asset is what its item is about, rather than a preview or metadata."""
    return _BESIDES.isdisjoint(asset["roles"])


def data_asset(assets: Sequence[Row], key: str | None = None) -> Row:
    """Returns the asset with this key, which must be a raster, or the first raster that holds data.

    `assets` are an item's live ones in the order of their making. Raises NotFound for an unknown key, and InvalidInput for one
    that is no raster and for an item without any.
    """
    if key is not None:
        named = next((asset for asset in assets if asset["key"] == key), None)
        if named is None:
            raise NotFound("asset", detail=f"The item has no asset {key!r}. items.list_assets lists them.")
        if not is_raster(named):
            raise InvalidInput(f"The asset {key!r} is no raster, and there are no tiles of it.", loc=("asset_key",))
        return named
    rasters = [asset for asset in assets if is_raster(asset)]
    if not rasters:
        raise InvalidInput("The item has no raster, and there are no tiles of it.", loc=("item_id",))
    return next((asset for asset in rasters if is_data(asset)), rasters[0])
