"""What an open upload is, in the words of an item: its metadata, its bands, its moment, and whether it is ready as it is."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from rasterio.io import DatasetReader

from geopera_server.raster.info import COG_MEDIA_TYPE, RasterInfo, grid_fields, shown_names, shown_nodata
from geopera_server.raster.ingest import netcdf
from geopera_server.raster.ingest.bundle import Bundle, Parts
from geopera_server.raster.ingest.formats import GEOTIFF, NETCDF, NETCDF_4
from geopera_server.raster.ingest.placing import places_itself
from geopera_server.raster.ingest.rasters import Raster
from geopera_server.raster.layout import BLOCK_PX
from geopera_server.raster.statistics import BandStatistics

# Tiles are made of whole blocks: a ready file with larger ones would be slow, or heavy, for as long as it lives.
MAX_READY_BLOCK_PX = 1024

MAX_NAME_CHARACTERS = 200

_STATISTICS = ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV", "VALID_PERCENT")
_PICKING = ("NEAREST", "MODE")

# A ready file is opened by more readers than ours; domains beyond these are left behind by writing it anew.
_PLAIN_DOMAINS = frozenset({"", "IMAGE_STRUCTURE", "DERIVED_SUBDATASETS", "COLOR_PROFILE", "RPC", "EXIF", "TIFF"})
_MOMENTS = ("ACQUISITIONDATETIME", "ACQUISITION_DATETIME", "TIFFTAG_DATETIME", "EXIF_DateTimeOriginal")
_MOMENT_FORMATS = ("%Y:%m:%d %H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d", "%Y%m%dT%H%M%S")


def described(raster: Raster, parts: Parts) -> RasterInfo:
    """The metadata of the raster as it will be stored, upright."""
    dataset = raster.dataset
    return RasterInfo(
        **grid_fields(raster.grid),
        band_count=dataset.count,
        dtype=raster.dtype,
        nodata=shown_nodata(dataset.nodata),
        band_names=shown_names(band_names(raster, parts)),
        media_type=parts.format.media_type,
    )


def band_names(raster: Raster, parts: Parts) -> list[str | None]:
    """The bands' descriptions; of a NetCDF variable its name, or the moment of each of its bands."""
    dataset = raster.dataset
    if parts.format in (NETCDF, NETCDF_4):
        moments = netcdf.times(dataset)
        if moments is not None and len(moments) == dataset.count > 1:
            return [moment.strftime("%Y-%m-%dT%H:%M:%SZ") for moment in moments]
        return [raster.variable] if dataset.count == 1 else [f"{raster.variable}_{number}" for number in dataset.indexes]
    descriptions = _descriptions(dataset)
    if descriptions is None:
        return [None] * dataset.count
    named = (name or dataset.tags(at).get("DESCRIPTION") for name, at in zip(descriptions, dataset.indexes, strict=True))
    return [name[:MAX_NAME_CHARACTERS] if name else None for name in named]


def _descriptions(dataset: Any) -> tuple[str | None, ...] | None:
    try:
        found: tuple[str | None, ...] = dataset.descriptions
    except UnicodeDecodeError:
        # Older programs wrote them in the encoding of their place, which the file does not name.
        return None
    return found


def acquired(raster: Raster, parts: Parts) -> datetime | None:
    """The moment the file names; for a series of moments the first."""
    if parts.format in (NETCDF, NETCDF_4):
        moments = netcdf.times(raster.dataset)
        return min(moments) if moments else None
    for namespace in (None, "IMAGERY"):
        tags = raster.dataset.tags(ns=namespace)
        for name in _MOMENTS:
            moment = _moment(tags.get(name))
            if moment is not None:
                return moment
    return None


def _moment(text: str | None) -> datetime | None:
    for form in _MOMENT_FORMATS if text else ():
        with suppress(ValueError):
            moment = datetime.strptime(str(text).removesuffix("Z").partition(".")[0], form).replace(tzinfo=UTC)
            return moment if moment.year > 1900 else None
    return None


def ready_statistics(raster: Raster, bundle: Bundle, parts: Parts) -> tuple[BandStatistics, ...] | None:
    """The statistics of a raster that is stored as it is, or None for one that must be written anew.

    Ready is a valid Cloud Optimized GeoTIFF with overviews and exact statistics that needs nothing from beside it.
    """
    dataset = raster.dataset
    plain = (
        parts.format is GEOTIFF
        and places_itself(dataset)
        and raster.mask is None
        and not any(raster.flipped)
        and raster.dtype == dataset.dtypes[0]
        and set(dataset.tag_namespaces()) <= _PLAIN_DOMAINS
        and _descriptions(dataset) is not None
    )
    if not plain or not _overviewed(dataset, bundle) or not _in_small_blocks(dataset, parts):
        return None
    found = [_statistics(dataset.tags(number)) for number in dataset.indexes]
    statistics = tuple(each for each in found if each is not None)
    return statistics if len(statistics) == dataset.count and _is_cog(parts) else None


def _overviewed(dataset: Any, bundle: Bundle) -> bool:
    if max(dataset.shape) <= BLOCK_PX:
        return True
    made_by = dataset.tags(ns="IMAGE_STRUCTURE").get("OVERVIEW_RESAMPLING", "")
    return bool(dataset.overviews(1)) and (not bundle.is_categorical or made_by in _PICKING)


def _in_small_blocks(dataset: Any, parts: Parts) -> bool:
    shapes = list(dataset.block_shapes)
    for level in range(len(dataset.overviews(1))):
        with DatasetReader(str(parts.path), driver=["GTiff"], sharing=False, overview_level=level) as overview:
            shapes += overview.block_shapes
    return all(max(shape) <= MAX_READY_BLOCK_PX for shape in shapes)


def _statistics(tags: dict[str, str]) -> BandStatistics | None:
    if tags.get("STATISTICS_APPROXIMATE") == "YES":
        return None
    try:
        low, high, mean, stddev, percent = (float(tags[f"STATISTICS_{name}"]) for name in _STATISTICS)
    except (KeyError, ValueError):
        return None
    if not all(map(math.isfinite, (low, high, mean, stddev, percent))):
        return None
    return BandStatistics(min=low, max=high, mean=mean, stddev=stddev, valid_percent=percent)


def _is_cog(parts: Parts) -> bool:
    # Its imports cost more than the rest of an inspection, and most uploads do not come this far.
    from rio_cogeo.cogeo import cog_validate  # noqa: PLC0415

    try:
        valid, _errors, _warnings = cog_validate(parts.path, quiet=True)
    except UnicodeDecodeError:
        return False
    return bool(valid)


def media_type(parts: Parts, *, ready: bool) -> str:
    """What the uploaded file is sent as; of a zip, the zip."""
    if parts.entry is not None:
        return "application/zip"
    return COG_MEDIA_TYPE if ready else parts.format.media_type
