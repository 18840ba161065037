"""What a read makes GDAL decode, and when that is too much for one picture."""

from __future__ import annotations

from geopera_server.raster.env import MEGABYTE
from geopera_server.raster.errors import TooLarge, shown_href
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.levels import Level, Part

# A Cloud Optimized GeoTIFF needs 1 to 5 MB for a tile of 512 pixels.
MAX_DECODED_BYTES = 256 * MEGABYTE


def check_cost(facts: Facts, level: Level, part: Part, bands: int) -> None:
    """Raises TooLarge where a read would decode more than MAX_DECODED_BYTES; says what to do about the file."""
    decoded = decoded_bytes(facts, level, part, bands)
    if decoded > MAX_DECODED_BYTES:
        raise TooLarge(
            f"{shown_href(facts.href)} has no overviews that suit this zoom level: {decoded / MEGABYTE:,.0f} MB would be"
            f" decoded for one picture. Zoom in, or turn it into a Cloud Optimized GeoTIFF, as an upload does."
        )


def decoded_bytes(facts: Facts, level: Level, part: Part, bands: int) -> float:
    """The bytes that GDAL decodes for a part: whole blocks, of all bands where they are stored together.

    Overviews are taken to have blocks as large as the raster's, or as themselves where they are smaller.
    """
    if not facts.random_access:
        return float(facts.width) * facts.height * facts.band_count * facts.itemsize
    across = _decoded(part.width, level.width, level.thinning, facts.block[0])
    down = _decoded(part.height, level.height, level.thinning, facts.block[1])
    return across * down * (facts.band_count if facts.interleaved else bands) * facts.itemsize


def _decoded(pixels: int, size: int, thinning: int, block: int) -> float:
    """How many pixels in one direction are decoded to give so many of them, a thinning apart."""
    span = pixels * thinning
    blocks = min(pixels, span / block + 1)
    return min(blocks * min(block, size * thinning), size * thinning)
