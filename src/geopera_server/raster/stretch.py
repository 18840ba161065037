"""The range of values that a picture is stretched over when nobody says: the 2nd to the 98th percentile."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.errors import NoValidPixels
from geopera_server.raster.readers import POOL, Reader, Target
from geopera_server.raster.tiles.choosing import bands_of
from geopera_server.raster.tiles.cutting import key_of
from geopera_server.raster.tiles.overviewing import bands_in_view, view_of
from geopera_server.raster.tiles.rendering import Range, Rendering

SAMPLED_PX = 512
_KEPT = 4096

_lock = threading.Lock()
_kept: OrderedDict[tuple[Any, ...], tuple[Range, ...] | None] = OrderedDict()


def default_rescale(target: Target, rendering: Rendering, aoi: dict[str, Any] | None = None) -> tuple[Range, ...]:
    """The 2nd and 98th percentile of each band, or of the formula, in the AOI or else in the whole raster.

    Taken where at most 512 pixels lie along the longer side; remembered per version of the file. Raises NoValidPixels.
    """
    with POOL.lent(target) as reader:
        return rescale_of(reader, rendering, aoi)


def rescale_of(reader: Reader, rendering: Rendering, aoi: dict[str, Any] | None) -> tuple[Range, ...]:
    """As `default_rescale`, of a raster that is open already."""
    bands = bands_of(reader.facts, rendering)
    key = (reader.target, bands, rendering.formula, rendering.nodata, key_of(aoi))
    with _lock:
        known = key in _kept
        ranges = _kept.get(key)
        if known:
            _kept.move_to_end(key)
    if not known:
        ranges = _measured(reader, rendering, bands, aoi)
        with _lock:
            _kept[key] = ranges
            while len(_kept) > _KEPT:
                _kept.popitem(last=False)
    if ranges is None:
        raise NoValidPixels(reader.target.href)
    return ranges


def _measured(
    reader: Reader, rendering: Rendering, bands: tuple[int, ...], aoi: dict[str, Any] | None
) -> tuple[Range, ...] | None:
    """The ranges; None when not one band has a valid pixel. A band without one among others takes theirs."""
    try:
        view = view_of(reader, aoi, SAMPLED_PX)
    except NoValidPixels:
        return None
    seen = [_range(values) for values, _ in bands_in_view(reader, view, bands, rendering.formula, rendering.nodata)]
    known = [found for found in seen if found is not None]
    return tuple(found or known[0] for found in seen) if known else None


def _range(values: npt.NDArray[Any]) -> Range | None:
    """A range that is never empty, so that a raster of one value is drawn and not divided by zero."""
    if values.size == 0:
        return None
    low, high = (float(found) for found in np.percentile(values, (2, 98)))
    if low < high:
        return low, high
    low, high = float(values.min()), float(values.max())
    return (low, high) if low < high else (low, low + 1.0)
