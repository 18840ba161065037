"""Measures rasters: figures of bands and formulas, and what to stretch a picture over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geopera_server.domains.tiles.addresses import host_of
from geopera_server.domains.tiles.refusals import done
from geopera_server.domains.tiles.shapes import AreaFigures, BandFigures
from geopera_server.domains.tiles.wanted import read_all_bands
from geopera_server.domains.visualization.bands import Bands
from geopera_server.domains.visualization.configs import formula_of
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_geometry, to_geojson
from geopera_server.raster.figures import RasterStats

if TYPE_CHECKING:
    from geopera_server.raster.formula import Formula
    from geopera_server.raster.readers import Target
    from geopera_server.raster.render import BandStats

MAX_PX = 2_048
SAMPLED_PX = 512


async def area_figures(
    outside: Outside,
    target: Target,
    bands: Bands,
    *,
    geometry: Any,
    bands_text: str | None,
    expression: str | None,
    percentiles: tuple[float, float],
) -> AreaFigures:
    """Returns figures of bands, or of a formula, within an area; raises InvalidInput (`no_valid_pixels`) for an empty one."""
    from geopera_server.raster.render import statistics  # noqa: PLC0415

    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise InvalidInput("Percentiles are two numbers from 0 to 100, the lower one first.", loc=("percentiles",))
    if expression is not None and bands_text is not None:
        raise InvalidInput("Ask for bands or for an expression, not for both.", loc=("expression",))
    area = read_geometry(geometry, loc=("geometry",))
    formula = None if expression is None else formula_of(expression, bands, ("expression",))
    numbers = None if bands_text is None else read_all_bands(bands_text, bands)
    found = await done(
        outside.ports.renders,
        lambda: statistics(
            target, bands=numbers, formula=formula, geometry=to_geojson(area), percentiles=percentiles, max_px=MAX_PX
        ),
        loc=("url",),
        host=host_of(target),
    )
    keys = [f"{percent:g}" for percent in percentiles]
    spans = [[each.statistics["percentiles"][key] for key in keys] for each in found]
    return AreaFigures(
        bands=[BandFigures(band=each.band, name=_name(each, bands), statistics=each.statistics) for each in found],
        expression=expression,
        percentiles=[low, high],
        rescale=";".join(rescale_text(span) for span in spans),
        bbox=list(area.bounds),
        sampled=any(each.sampled for each in found),
    )


def _name(figures: BandStats, bands: Bands) -> str:
    """Returns what the item calls a band, else what the file does."""
    number = figures.band
    return bands.names[number - 1] if number is not None and number <= len(bands.names) else figures.name


async def figures_of_formula(outside: Outside, target: Target, formula: Formula) -> RasterStats:
    """Returns figures of a formula over a whole raster, at its smallest overview."""
    from geopera_server.raster.render import statistics  # noqa: PLC0415

    [found] = await done(
        outside.ports.renders,
        lambda: statistics(target, formula=formula, max_px=SAMPLED_PX),
        loc=("expression",),
        host=host_of(target),
    )
    return found.statistics


def rescale_text(span: list[float]) -> str:
    """Returns `low,high` as tiles take it, never an empty span."""
    low, high = span
    return f"{low:.10g},{high if low < high else low + 1:.10g}"
