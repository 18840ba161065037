"""What a raster offers to look at, by its file's names and numbers; worked out once for all files that are alike. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from geopera_server.domains.visualization.bands import SHIFTED_BY, Bands, bands_of, platform_of
from geopera_server.domains.visualization.pictures import pictures_of
from geopera_server.domains.visualization.shapes import VisualizationSpec

REMEMBERED = 2_000
_HEIGHT_WORDS = frozenset({"dem", "dsm", "dtm", "elevation", "height", "bathymetry", "depth"})
# Words for rasters of classes, and the colours that their producers give them where those are known.
_CLASS_WORDS = {
    "scl": "scl", "worldcover": "worldcover", "classification": None, "landcover": None, "lulc": None, "classes": None,
    "class": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Offer:
    """The bands of a raster, and its pictures with the best first; there is always one."""

    bands: Bands
    pictures: tuple[VisualizationSpec, ...]

    def picture(self, picture_id: str | None) -> VisualizationSpec | None:
        """Returns the picture with this id, the best without one; None for an id that is not offered."""
        wanted = None if picture_id is None else picture_id.lower()
        return next((each for each in self.pictures if wanted in (None, each.id)), None)


class _Seen(NamedTuple):
    key: str
    roles: tuple[str, ...]
    names: tuple[str, ...]
    band_count: int | None
    dtype: str
    platform: str
    of_reflectance: bool
    shift: tuple[Any, ...]


def offer_of(asset: Mapping[str, Any], properties: Mapping[str, Any] | None = None) -> Offer:
    """Returns what an asset offers whose item has these STAC properties."""
    return _offer(
        _Seen(
            key=asset["key"],
            roles=tuple(asset["roles"]),
            names=tuple(asset["band_names"]),
            band_count=asset["band_count"],
            dtype=asset["dtype"] or "",
            platform=platform_of(properties or {}),
            of_reflectance=_is_reflectance(asset),
            shift=tuple(_word((properties or {}).get(name)) for name in SHIFTED_BY),
        )
    )


@lru_cache(maxsize=REMEMBERED)
def _offer(seen: _Seen) -> Offer:
    file = {"key": seen.key, "band_names": seen.names, "band_count": seen.band_count}
    bands = bands_of(file, {"platform": seen.platform, **dict(zip(SHIFTED_BY, seen.shift, strict=True))})
    data_type, colormap = _kind(seen, bands)
    pictures = pictures_of(bands, data_type=data_type, of_reflectance=seen.of_reflectance, colormap=colormap)
    return Offer(bands, tuple(pictures))


def _kind(seen: _Seen, bands: Bands) -> tuple[str, str | None]:
    """Returns raster, elevation or categorical, by what the file and its bands are called, and the colours of known classes."""
    words = {seen.key.lower(), *(name.lower() for name in seen.names), *seen.roles}
    if bands.count == 1 and ("elevation" in bands.roles or words & _HEIGHT_WORDS):
        return "elevation", None
    classes = sorted(words & _CLASS_WORDS.keys())
    if bands.count == 1 and classes and seen.dtype.startswith(("uint", "int")):
        return "categorical", next((_CLASS_WORDS[word] for word in classes if _CLASS_WORDS[word]), None)
    return "raster", None


def _word(told: Any) -> Any:
    return told if isinstance(told, (str, bool)) else None


def _is_reflectance(asset: Mapping[str, Any]) -> bool:
    """Says whether a raster's numbers are reflectance themselves: fractions of at most a little over one."""
    if not str(asset["dtype"] or "").startswith("float"):
        return False
    tops = [band.get("max") for band in asset["statistics"] or () if band.get("max") is not None]
    return bool(tops) and max(tops) <= 2.0
