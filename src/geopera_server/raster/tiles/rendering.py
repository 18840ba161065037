"""What a picture of a raster is to look like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from geopera_server.raster.formula import Formula

Range = tuple[float, float]
Colour = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Rendering:
    """The wishes for a picture; what is None is decided by the raster itself.

    `bands` count from 1: one (grey, or in a `colormap`) or three (red, green, blue). `formula` takes the place of bands.
    `rescale` is one range for all bands or one for each; without it, bytes of red, green and blue stay as they are,
    a palette gives its own colours, and all else is stretched over its 2nd to 98th percentile. `categories` are
    colours by value and take the place of `colormap`. Class bands and palettes are never interpolated, whatever
    `resampling` says. `terrain` asks for heights in Terrain-RGB, with `invert` for depths.
    """

    bands: tuple[int, ...] | None = None
    formula: Formula | None = None
    rescale: tuple[Range, ...] | None = None
    colormap: str | None = None
    categories: tuple[tuple[float, Colour], ...] | None = None
    nodata: float | None = None
    resampling: Literal["nearest", "bilinear"] = "nearest"
    terrain: bool = False
    invert: bool = False
