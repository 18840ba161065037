"""The profiles that follow from an asset itself: by its sensor's rules, else by its numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from geopera_server.domains.visualization.offering import offer_of
from geopera_server.domains.visualization.shapes import VisualizationSpec

# Every profile is a row that somebody scrolls past; the other indices are there by their ids all the same.
KEPT_INDICES = frozenset({"ndvi", "evi2", "ndre", "ndmi", "ndwi", "mndwi", "nbr", "ndbi"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A profile to be, in `place` among those of its asset."""

    name: str
    layer: str
    type: str
    asset_key: str
    place: int
    config: dict[str, Any] = field(default_factory=dict)


def found_in(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> list[Found]:
    """Returns the profiles of one raster, the best first."""
    offer = offer_of(asset, properties)
    bands = offer.bands
    kept = [spec for spec in offer.pictures if spec.kind != "index" or spec.id in KEPT_INDICES]
    wanted = [spec for spec in kept if spec.kind != "raw" or spec.category == "categorical"] or kept[: bands.count]
    layer = "sensor" if bands.sensor is not None and bands.roles else "auto"
    return [
        Found(
            name=spec.label,
            layer=layer,
            asset_key=str(asset["key"]),
            place=place,
            **_config(spec, asset),
        )
        for place, spec in enumerate(wanted)
    ]


def _config(spec: VisualizationSpec, asset: Mapping[str, Any]) -> dict[str, Any]:
    """Returns type and config of the profile that shows what a picture does."""
    rescale = None if spec.rescale is None else [float(part) for part in spec.rescale.split(",")]
    if spec.kind == "rgb" and spec.bands is not None:
        config: dict[str, Any] = {"band_mapping": dict(zip("rgb", spec.bands, strict=True))}
        if rescale is None and asset["dtype"] == "uint8":
            # Eight bits are made for the eye: stretching them would change colours that somebody has chosen.
            rescale = [0.0, 255.0]
        return {"type": "rgb", "config": config | ({} if rescale is None else {"rescale": dict.fromkeys("rgb", rescale)})}
    more: dict[str, Any] = {} if spec.colormap is None else {"colormap": spec.colormap}
    if spec.expression is not None:
        return {"type": "expression", "config": {"expression": spec.expression, **more, "rescale": rescale}}
    assert spec.bands is not None
    rescale = rescale or (_extremes(asset, spec.bands[0]) if spec.kind == "elevation" else None)
    config = {"band": spec.bands[0], **more, **({} if rescale is None else {"rescale": rescale})}
    return {"type": "singleband", "config": config}


def _extremes(asset: Mapping[str, Any], number: int) -> list[float] | None:
    """Returns what all but the outermost values of a band lie between, by its statistics; None without any."""
    statistics: Sequence[Mapping[str, Any]] = asset["statistics"] or ()
    if len(statistics) < number or statistics[number - 1].get("min") is None:
        return None
    band = statistics[number - 1]
    mean, spread = band.get("mean"), band.get("stddev")
    low, high = float(band["min"]), float(band["max"])
    if mean is not None and spread is not None:
        low, high = max(low, float(mean) - 3 * float(spread)), min(high, float(mean) + 3 * float(spread))
    return [low, high] if low < high else None
