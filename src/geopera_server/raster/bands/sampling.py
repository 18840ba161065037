"""Takes pixels from all over a raster, at a bounded cost."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from rasterio.enums import ColorInterp
from rasterio.windows import Window

from geopera_server.raster.bands.ranking import Sample
from geopera_server.raster.env import gdal_env
from geopera_server.raster.readers import Target
from geopera_server.raster.source import Source

SIDE_PX = 96
_SMALL_PX = 2_048
_WINDOWS_EACH_WAY, _WINDOW_PX = 4, 24


def sample_bands(target: Target) -> Sample:
    """Returns pixels of all bands that are valid in every one; raises RasterError.

    They come from an overview, or from parts where a large raster has none.
    """
    with gdal_env(**dict(target.way)), Source(target.href) as source:
        dataset = source.dataset
        parts = [_part(source, window, shape) for window, shape in _windows(dataset)]
        alphas = [number for number, meaning in enumerate(dataset.colorinterp) if meaning == ColorInterp.alpha]
        return Sample(
            values=np.concatenate(parts, axis=1),
            dtype=dataset.dtypes[0],
            alpha=alphas[0] if alphas else None,
            scales=tuple(dataset.scales),
            offsets=tuple(dataset.offsets),
        )


def _windows(dataset: object) -> Iterator[tuple[Window, tuple[int, int]]]:
    width, height = dataset.width, dataset.height  # type: ignore[attr-defined]
    if dataset.overviews(1) or max(width, height) <= _SMALL_PX:  # type: ignore[attr-defined]
        yield Window(0, 0, width, height), (min(height, SIDE_PX), min(width, SIDE_PX))
        return
    for row in range(_WINDOWS_EACH_WAY):
        for column in range(_WINDOWS_EACH_WAY):
            x, y = ((2 * place + 1) * size // (2 * _WINDOWS_EACH_WAY) for place, size in ((column, width), (row, height)))
            window = Window(x, y, min(_WINDOW_PX, width - x), min(_WINDOW_PX, height - y))
            yield window, (window.height, window.width)


def _part(source: Source, window: Window, shape: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    dataset = source.dataset
    stored = source.read(window, shape=(dataset.count, *shape))
    pixels = np.real(stored).astype(np.float64).reshape(dataset.count, -1)
    valid = source.read_mask(window, shape=shape).ravel() & np.isfinite(pixels).all(axis=0)
    for values, nodata in zip(pixels, dataset.nodatavals, strict=True):
        if nodata is not None:
            valid &= values != nodata
    return pixels[:, valid]
