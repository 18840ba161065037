"""Reads a whole raster, or what lies in an AOI, at a resolution that keeps it small."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.errors import NoValidPixels
from geopera_server.raster.formula import Formula
from geopera_server.raster.readers import Reader
from geopera_server.raster.tiles.cutting import part_around
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.levels import Level, Part
from geopera_server.raster.tiles.sampling import Bools
from geopera_server.raster.tiles.values import Values, read_values


@dataclass(frozen=True)
class View:
    """A part of a level; `inside` is None when all of its pixels count."""

    level: Level
    part: Part
    inside: Bools | None


def view_of(reader: Reader, aoi: dict[str, Any] | None, max_px: int) -> View:
    """The finest level at which the raster, or the AOI in it, has at most `max_px` pixels on its longer side.

    Raises InvalidAoi, or NoValidPixels where the AOI does not meet the raster.
    """
    facts = reader.facts
    for level in facts.levels:
        view = _view(facts, aoi, level)
        if max(view.part.width, view.part.height) <= max_px:
            break
    return view


def _view(facts: Facts, aoi: dict[str, Any] | None, level: Level) -> View:
    if aoi is None:
        return View(level, Part(0, 0, level.width, level.height), None)
    around = part_around(aoi, facts, level)
    if around is None:
        raise NoValidPixels(facts.href)
    return View(level, *around)


def formula_values(reader: Reader, view_level: Level, part: Part, formula: Formula, nodata: float | None) -> Values:
    """The value of a formula at each pixel, as one band."""
    if not formula.bands:
        whole = np.ones((part.height, part.width), dtype=np.bool_)
        found, present = formula.evaluate({}, whole)
        return Values(found[np.newaxis], None if present.all() else present)
    read = read_values(reader, view_level, part, formula.bands, nodata=nodata, all_bands=True)
    return evaluated(formula, read)


def evaluated(formula: Formula, read: Values) -> Values:
    """The value of a formula over the bands that it uses, in their order."""
    valid = read.valid if read.valid is not None else np.ones(read.pixels.shape[1:], dtype=np.bool_)
    found, present = formula.evaluate(dict(zip(formula.bands, read.pixels, strict=True)), valid)
    return Values(found[np.newaxis], None if present.all() else present)


def bands_in_view(
    reader: Reader, view: View, bands: tuple[int, ...], formula: Formula | None, nodata: float | None
) -> Iterator[tuple[npt.NDArray[Any], int]]:
    """For each band, or for the formula alone, the valid values in the view, and how many pixels are in it."""
    pixels = view.part.width * view.part.height if view.inside is None else int(view.inside.sum())
    for number in bands if formula is None else (0,):
        if formula is None:
            values = read_values(reader, view.level, view.part, (number,), nodata=nodata)
        else:
            values = formula_values(reader, view.level, view.part, formula, nodata)
        keep = values.valid
        if view.inside is not None:
            keep = view.inside if keep is None else keep & view.inside
        yield values.pixels[0].ravel() if keep is None else values.pixels[0][keep], pixels
