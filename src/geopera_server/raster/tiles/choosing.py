"""Decides which bands a picture is made of, and says what does not fit a raster."""

from __future__ import annotations

from geopera_server.raster.errors import Unrenderable
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.rendering import Rendering


def bands_of(facts: Facts, rendering: Rendering) -> tuple[int, ...]:
    """The bands to read, from 1; raises Unrenderable for wishes that the raster or each other rule out."""
    if rendering.formula is not None:
        if rendering.bands is not None:
            raise Unrenderable("A picture is made of bands or of an expression, not of both; leave one out.")
        return _known(facts, rendering.formula.bands)
    if rendering.terrain:
        return _height_band(facts, rendering.bands)
    bands = _known(facts, rendering.bands) if rendering.bands is not None else _usual(facts, rendering)
    if len(bands) not in (1, 3):
        raise Unrenderable(f"{len(bands)} bands make no picture; choose one, or three for red, green and blue.")
    if len(bands) == 3 and (rendering.colormap is not None or rendering.categories is not None):
        raise Unrenderable("A colormap colours one band; choose one band, or leave the colormap out.")
    _check_ranges(rendering, len(bands))
    return bands


def nearest_only(facts: Facts, rendering: Rendering) -> bool:
    """Whether values between two pixels would mean nothing: classes and palette entries."""
    return rendering.resampling == "nearest" or facts.categorical or rendering.categories is not None


def _usual(facts: Facts, rendering: Rendering) -> tuple[int, ...]:
    coloured = rendering.colormap is not None or rendering.categories is not None
    if coloured or len(facts.data_bands) < 3:
        return facts.data_bands[:1]
    return facts.colour_bands or facts.data_bands[:3]


def _height_band(facts: Facts, bands: tuple[int, ...] | None) -> tuple[int, ...]:
    chosen = _known(facts, bands) if bands is not None else facts.data_bands
    if len(chosen) != 1:
        raise Unrenderable(f"Terrain is made of one band of heights, and this raster has {len(chosen)}.")
    return chosen


def _known(facts: Facts, bands: tuple[int, ...]) -> tuple[int, ...]:
    for number in bands:
        if not 1 <= number <= facts.band_count:
            raise Unrenderable(f"There is no band {number}; this raster has bands 1 to {facts.band_count}.")
    return bands


def _check_ranges(rendering: Rendering, bands: int) -> None:
    ranges = rendering.rescale
    if ranges is None:
        return
    if len(ranges) not in (1, bands):
        raise Unrenderable(f"{len(ranges)} rescale ranges do not fit {bands} bands; give one, or one for each band.")
    if any(not low < high for low, high in ranges):
        raise Unrenderable("A rescale range is min,max with min below max.")
