"""What a profile's config may hold, checked against the bands of the asset it is for. Pure.

rgb          {band_mapping: {r, g, b}, rescale?: {r, g, b}}
singleband   {band, colormap?, rescale?}
multiband    {bands: [...], rescale?}
expression   {expression, colormap?, rescale?}

A band is a 1-based number or a name; a rescale is `[min, max]` or "min,max".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geopera_server.domains.visualization.bands import Bands
from geopera_server.kernel.errors import InvalidInput
from geopera_server.raster.errors import ColormapUnknown, FormulaError

if TYPE_CHECKING:
    from geopera_server.raster.formula import Formula

Span = tuple[float, float]
MOST_BANDS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """What a tile is made of, in numbers: bands or a formula, and how their values become colours."""

    bands: tuple[int, ...] | None = None
    formula: Formula | None = None
    rescale: tuple[Span, ...] | None = None
    colormap: str | None = None


def picture_of(kind: str, config: Mapping[str, Any], bands: Bands) -> Picture:
    """Returns what a config of this type shows of these bands; raises InvalidInput, located in `config`, unless it fits."""
    return _READERS[kind](config, bands)


def _rgb(config: Mapping[str, Any], bands: Bands) -> Picture:
    _only(config, "rgb", "band_mapping", "rescale")
    mapping = config.get("band_mapping")
    if not isinstance(mapping, Mapping) or set(mapping) != {"r", "g", "b"}:
        raise _bad("A picture of type rgb has band_mapping with exactly r, g and b.", "band_mapping")
    numbers = tuple(band_number(mapping[channel], bands, ("config", "band_mapping", channel)) for channel in "rgb")
    given, rescale = config.get("rescale"), None
    if isinstance(given, Mapping):
        if set(given) != {"r", "g", "b"}:
            raise _bad("rescale names r, g and b, like band_mapping, or is one pair for all three.", "rescale")
        rescale = tuple(span_of(given[channel], ("config", "rescale", channel)) for channel in "rgb")
    elif given is not None:
        rescale = (span_of(given, ("config", "rescale")),) * 3
    return Picture(bands=numbers, rescale=rescale)


def _singleband(config: Mapping[str, Any], bands: Bands) -> Picture:
    _only(config, "singleband", "band", "colormap", "rescale")
    if "band" not in config:
        raise _bad("A picture of type singleband has a band: a 1-based number or a band's name.", "band")
    number = band_number(config["band"], bands, ("config", "band"))
    return Picture(bands=(number,), rescale=_one_span(config), colormap=_colormap(config))


def _multiband(config: Mapping[str, Any], bands: Bands) -> Picture:
    _only(config, "multiband", "bands", "rescale")
    given = config.get("bands")
    if not isinstance(given, (list, tuple)) or not 1 <= len(given) <= MOST_BANDS:
        raise _bad(f"A picture of type multiband has bands: a list of 1 to {MOST_BANDS} numbers or names.", "bands")
    numbers = tuple(band_number(each, bands, ("config", "bands", place)) for place, each in enumerate(given))
    spans = config.get("rescale")
    if isinstance(spans, (list, tuple)) and spans and isinstance(spans[0], (list, tuple, str)):
        if len(spans) not in (1, len(numbers)):
            raise _bad(f"rescale has one pair, or as many as there are bands: {len(numbers)}.", "rescale")
        rescale = tuple(span_of(each, ("config", "rescale", place)) for place, each in enumerate(spans))
    else:
        rescale = _one_span(config) or ()
    spread = rescale * len(numbers) if len(rescale) == 1 else rescale
    shown = 3 if len(numbers) >= 3 else 1
    return Picture(bands=numbers[:shown], rescale=spread[:shown] or None)


def _expression(config: Mapping[str, Any], bands: Bands) -> Picture:
    _only(config, "expression", "expression", "colormap", "rescale")
    text = config.get("expression")
    if not isinstance(text, str) or not text.strip():
        raise _bad("A picture of type expression has an expression, as (b4 - b1) / (b4 + b1).", "expression")
    formula = formula_of(text, bands, ("config", "expression"))
    return Picture(formula=formula, rescale=_one_span(config), colormap=_colormap(config))


_READERS: Mapping[str, Callable[[Mapping[str, Any], Bands], Picture]] = {
    "rgb": _rgb,
    "singleband": _singleband,
    "multiband": _multiband,
    "expression": _expression,
}


def formula_of(text: str, bands: Bands, loc: tuple[str | int, ...]) -> Formula:
    """Returns a formula over bands by number, name or role; raises InvalidInput that says where it goes wrong."""
    # What evaluates formulas takes long to load, and no start waits for it.
    from geopera_server.raster.formula import parse  # noqa: PLC0415

    try:
        return parse(text, names=bands.numbers, band_count=bands.count)
    except FormulaError as error:
        raise InvalidInput(str(error), loc=loc, code="invalid_input", position=error.position) from error


def band_number(given: Any, bands: Bands, loc: tuple[str | int, ...]) -> int:
    """Returns the 1-based number of a band given by number or by name; raises InvalidInput for one that is not there."""
    if isinstance(given, str):
        text = given.strip()
        number = int(text) if text.isdecimal() else bands.numbers.get(text, bands.numbers.get(text.lower(), 0))
    else:
        number = given if isinstance(given, int) and not isinstance(given, bool) else 0
    if not 1 <= number <= bands.count:
        raise InvalidInput(f"There is no band {given!r}: {_what_there_is(bands)}.", loc=loc)
    return number


def _what_there_is(bands: Bands) -> str:
    told = [name for name in bands.names if name.lower() not in {f"b{number}" for number in range(1, bands.count + 1)}]
    counted = "the raster has one band, 1" if bands.count == 1 else f"the raster has bands 1 to {bands.count}"
    return counted + (f", named {', '.join(told[:20])}" if told else "")


def span_of(given: Any, loc: tuple[str | int, ...]) -> Span:
    """Returns the lowest and highest shown value of `[min, max]` or "min,max"; raises InvalidInput."""
    parts = given.split(",") if isinstance(given, str) else given
    try:
        if not isinstance(parts, (list, tuple)) or any(isinstance(part, bool) for part in parts):
            raise TypeError
        low, high = (float(part) for part in parts)
    except (TypeError, ValueError):
        raise InvalidInput("A rescale is two numbers, the lowest and the highest value shown, as 0,3000.", loc=loc) from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InvalidInput("A rescale goes from a lower to a higher number, as 0,3000.", loc=loc)
    return low, high


def checked_colormap(name: Any, loc: tuple[str | int, ...]) -> str:
    """Returns the name of a colormap there is; raises InvalidInput for another."""
    from geopera_server.raster.colormaps import colormap  # noqa: PLC0415

    try:
        if not isinstance(name, str):
            raise ColormapUnknown(str(name))
        colormap(name)
    except ColormapUnknown:
        raise InvalidInput(
            f"There is no colormap {name!r}. cog.colormaps lists them; _r behind a name reverses it.", loc=loc
        ) from None
    return name


def _one_span(config: Mapping[str, Any]) -> tuple[Span, ...] | None:
    given = config.get("rescale")
    return None if given is None else (span_of(given, ("config", "rescale")),)


def _colormap(config: Mapping[str, Any]) -> str | None:
    given = config.get("colormap")
    return None if given is None else checked_colormap(given, ("config", "colormap"))


def _only(config: Mapping[str, Any], kind: str, *known: str) -> None:
    for name in config:
        if name not in known:
            raise InvalidInput(f"A picture of type {kind} has {', '.join(known)}.", loc=("config", name))


def _bad(msg: str, name: str) -> InvalidInput:
    return InvalidInput(msg, loc=("config", name))
