"""Renders tiles of scenes whose bands lie in files of their own, each on its own grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from geopera_server.raster.colormaps import colormap
from geopera_server.raster.errors import NoValidPixels, Unrenderable
from geopera_server.raster.readers import POOL, Target
from geopera_server.raster.stretch import default_rescale
from geopera_server.raster.tiles.colouring import Packed, in_colormap, in_grey_or_colour
from geopera_server.raster.tiles.cutting import inside_aoi
from geopera_server.raster.tiles.encoding import Format, encoded, transparent
from geopera_server.raster.tiles.laying import values_on_tile
from geopera_server.raster.tiles.mercator import Tile
from geopera_server.raster.tiles.overviewing import evaluated
from geopera_server.raster.tiles.rendering import Range, Rendering
from geopera_server.raster.tiles.values import Values

MEASURED_PX = 256


@dataclass(frozen=True)
class Layer:
    """One band of a stack: the band of a file, counted from 1."""

    target: Target
    number: int


def stacked_tile(
    layers: Sequence[Layer],
    rendering: Rendering,
    z: int,
    x: int,
    y: int,
    *,
    around: tuple[int, int, int],
    format: Format = "webp",  # noqa: A002
    quality: int = 82,
    size: int = 256,
    aoi: dict[str, Any] | None = None,
) -> bytes:
    """Renders a Web Mercator tile whose bands and formula count the layers from 1.

    A pixel is drawn where all the layers it needs are valid. `around` is a tile, as z, x, y, that holds the scene: a formula
    without a range is stretched over what lies in it. Raises as `render.tile` does.
    """
    wanted = Tile(z, x, y, size)
    numbers = _numbers(layers, rendering)
    inside = None if aoi is None else inside_aoi(aoi, wanted)
    values = None if inside is not None and not inside.any() else _stack(layers, numbers, wanted)
    if values is None:
        return transparent(size, format)
    if inside is not None:
        values = Values(values.pixels, inside if values.valid is None else values.valid & inside)
    picture = _picture(layers, numbers, rendering, values, Tile(*around, MEASURED_PX))
    return transparent(size, format) if picture is None else encoded(picture, format, quality)


def _numbers(layers: Sequence[Layer], rendering: Rendering) -> tuple[int, ...]:
    numbers = rendering.formula.bands if rendering.formula is not None else rendering.bands or ()
    if not numbers or any(not 1 <= number <= len(layers) for number in numbers):
        raise Unrenderable(f"The scene has bands 1 to {len(layers)}; the picture asks for {list(numbers)}.")
    if rendering.formula is None and len(numbers) not in (1, 3):
        raise Unrenderable(f"{len(numbers)} bands make no picture; choose one, or three for red, green and blue.")
    return numbers


def _stack(layers: Sequence[Layer], numbers: Sequence[int], wanted: Tile) -> Values | None:
    """The layers' values at the tile's pixels, as float32; None where one of them does not meet the tile."""
    found = []
    for number in numbers:
        layer = layers[number - 1]
        with POOL.lent(layer.target) as reader:
            sampled = values_on_tile(reader, wanted, (layer.number,))
        if sampled is None:
            return None
        found.append(sampled)
    pixels = np.stack([each.pixels[0] for each in found])
    return Values(pixels, np.logical_and.reduce([each.valid for each in found if each.valid is not None]))


def _picture(
    layers: Sequence[Layer], numbers: Sequence[int], rendering: Rendering, values: Values, around: Tile
) -> Packed | None:
    ranges = rendering.rescale or _stretch(layers, numbers, rendering, around)
    if ranges is None:
        return None
    shown = values if rendering.formula is None else evaluated(rendering.formula, values)
    if rendering.colormap is not None:
        if len(shown.pixels) != 1:
            raise Unrenderable("A colormap colours one band; choose one band, or leave the colormap out.")
        return in_colormap(shown, ranges[0], colormap(rendering.colormap))
    return in_grey_or_colour(shown, ranges)


def _stretch(layers: Sequence[Layer], numbers: Sequence[int], rendering: Rendering, around: Tile) -> tuple[Range, ...] | None:
    """The 2nd to the 98th percentile of each band or of the formula; None when nothing is valid."""
    if rendering.formula is None:
        try:
            return tuple(
                default_rescale(layers[number - 1].target, Rendering(bands=(layers[number - 1].number,)))[0]
                for number in numbers
            )
        except NoValidPixels:
            return None
    whole = _stack(layers, numbers, around)
    if whole is None:
        return None
    values = evaluated(rendering.formula, whole)
    seen = values.pixels[0] if values.valid is None else values.pixels[0][values.valid]
    if seen.size == 0:
        return None
    low, high = (float(each) for each in np.percentile(seen, (2, 98)))
    return ((low, high if high > low else low + 1.0),)
