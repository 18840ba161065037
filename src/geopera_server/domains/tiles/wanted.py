"""What callers say about the picture they want, read and checked. Pure."""

from __future__ import annotations

from typing import Any, Literal

from geopera_server.domains.visualization.bands import Bands
from geopera_server.domains.visualization.configs import Span, band_number, span_of
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_geometry, to_geojson

Format = Literal["webp", "png", "jpeg"]
MEDIA_TYPES: dict[Format, str] = {"webp": "image/webp", "png": "image/png", "jpeg": "image/jpeg"}
_FORMATS: dict[str, Format] = {"webp": "webp", "png": "png", "jpeg": "jpeg", "jpg": "jpeg"}
MAX_ZOOM = 24
TILE_PX = 256
TILE_SIZES = (TILE_PX, 2 * TILE_PX)
MIN_SIDE_PX, MAX_SIDE_PX = 16, 2_048


def checked_place(z: int, x: int, y: int) -> tuple[int, int, int]:
    """Returns the place of a tile; raises InvalidInput for one that is not on the Web Mercator grid."""
    if not 0 <= z <= MAX_ZOOM:
        raise InvalidInput(f"Zoom levels go from 0 to {MAX_ZOOM}.", loc=("z",))
    for name, value in (("x", x), ("y", y)):
        if not 0 <= value < 1 << z:
            raise InvalidInput(f"On zoom level {z} tiles go from 0 to {(1 << z) - 1}.", loc=(name,))
    return z, x, y


def checked_format(name: str) -> Format:
    """Returns the image format; raises InvalidInput for one that is not made."""
    found = _FORMATS.get(name.strip().lower().removeprefix("image/"))
    if found is None:
        raise InvalidInput(f"Tiles are made as {', '.join(_FORMATS)}.", loc=("format",))
    return found


def checked_quality(quality: int) -> int:
    """Returns the quality, from 1 to 100; raises InvalidInput."""
    if not 1 <= quality <= 100:
        raise InvalidInput("Quality goes from 1 to 100.", loc=("quality",))
    return quality


def checked_size(pixels: int) -> int:
    """Returns the side of a tile in pixels; raises InvalidInput."""
    if pixels not in TILE_SIZES:
        raise InvalidInput("A tile is 256 or 512 pixels wide and high.", loc=("size",))
    return pixels


def checked_side(pixels: int, name: str) -> int:
    """Returns the side of an image in pixels; raises InvalidInput."""
    if not MIN_SIDE_PX <= pixels <= MAX_SIDE_PX:
        raise InvalidInput(f"An image is {MIN_SIDE_PX} to {MAX_SIDE_PX:,} pixels wide and high.", loc=(name,))
    return pixels


def read_bands(text: str, bands: Bands) -> tuple[int, ...]:
    """Returns the one or three bands of a comma list of numbers or names; raises InvalidInput."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) not in (1, 3):
        raise InvalidInput("A picture is made of one band or of three, as 4,3,2.", loc=("bands",))
    return tuple(band_number(part, bands, ("bands",)) for part in parts)


def read_all_bands(text: str | None, bands: Bands) -> tuple[int, ...]:
    """Returns the bands of a comma list of numbers or names, each once; all without a list. Raises InvalidInput."""
    if text is None:
        return tuple(range(1, bands.count + 1))
    numbers = [band_number(part.strip(), bands, ("bands",)) for part in text.split(",")]
    return tuple(dict.fromkeys(numbers))


def read_rescale(text: str, shown: int) -> tuple[Span, ...]:
    """Returns a span for each of the shown bands: `min,max` once, or per band with `;` between; raises InvalidInput."""
    parts = [part for part in text.split(";") if part.strip()]
    if len(parts) not in (1, shown):
        raise InvalidInput(
            f"Give rescale once, as 0,3000, or {shown} times, once for each band, with ; between.", loc=("rescale",)
        )
    spans = tuple(span_of(part, ("rescale",)) for part in parts)
    return spans * shown if len(spans) == 1 else spans


def read_aoi(text: str | None) -> dict[str, Any] | None:
    """Returns the polygon of GeoJSON text, valid; raises Malformed for what is no JSON, InvalidInput for no polygon."""
    return None if text is None or not text.strip() else to_geojson(read_geometry(text, loc=("aoi",)))
