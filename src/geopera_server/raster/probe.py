"""What a raster is, learnt from its header alone."""

from __future__ import annotations

from typing import Any

import pyproj
import pyproj.exceptions
from affine import Affine

from geopera_server.raster.errors import NotGeoreferenced
from geopera_server.raster.georef import Grid
from geopera_server.raster.info import COG_MEDIA_TYPE, RasterInfo, grid_fields, shown_names, shown_nodata
from geopera_server.raster.source import Source, open_source

_MEDIA_TYPES = {
    "GTiff": "image/tiff; application=geotiff",
    "JP2OpenJPEG": "image/jp2",
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "WEBP": "image/webp",
}


def probe(href: str) -> RasterInfo:
    """The metadata of a raster; of a remote one, only the header is fetched.

    Raises SourceRefused, SourceUnreadable (also for a raster without a place on Earth) or SourceUnreachable.
    """
    with open_source(href) as source:
        source.confirm()
        dataset = source.dataset
        return RasterInfo(
            **grid_fields(grid_of(source)),
            band_count=dataset.count,
            dtype=str(dataset.dtypes[0]),
            nodata=shown_nodata(dataset.nodata),
            band_names=shown_names(band_names_of(source)),
            media_type=_media_type(dataset),
        )


def grid_of(source: Source) -> Grid:
    """Where the source's pixels lie; raises NotGeoreferenced when nothing says so."""
    dataset = source.dataset
    if dataset.crs is None or dataset.transform == Affine.identity():
        raise NotGeoreferenced(source.href, "has no place on Earth: its reference system or its transform is missing")
    grid = Grid(dataset.width, dataset.height, dataset.transform, dataset.crs)
    try:
        outline = grid.outline
    except pyproj.exceptions.ProjError:
        raise NotGeoreferenced(source.href, "has a reference system that is not tied to the Earth") from None
    if outline.is_empty:
        raise NotGeoreferenced(source.href, "has no place on Earth: its corners lie outside its reference system")
    return grid


def band_names_of(source: Source) -> list[str | None]:
    """The bands' descriptions; some producers put them into the band's metadata instead."""
    dataset = source.dataset
    described = zip(dataset.descriptions, dataset.indexes, strict=True)
    return [name or dataset.tags(number).get("DESCRIPTION") or None for name, number in described]


def _media_type(dataset: Any) -> str:
    if dataset.tags(ns="IMAGE_STRUCTURE").get("LAYOUT") == "COG":
        return COG_MEDIA_TYPE
    return _MEDIA_TYPES[dataset.driver]
