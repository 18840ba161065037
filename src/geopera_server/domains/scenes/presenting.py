"""From scenes to what is told of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from geopera_server.domains.catalog.reading import is_public, shown_assets
from geopera_server.domains.scenes.families import SceneBand
from geopera_server.domains.scenes.looking import Scene
from geopera_server.domains.scenes.shapes import Named, ShownBand, Visualization
from geopera_server.domains.visualization.shapes import VisualizationSpec

EQUATOR_M = 40_075_016.68557849
TILE_PX = 256
FARTHEST_ZOOM = 24
HARDLY_SEEN = 3
"""So many zoom levels below the fitting one, a scene is an eighth to a sixteenth of a tile wide."""


def named(visualizations: Sequence[VisualizationSpec]) -> list[Named]:
    """Returns pictures by id and label."""
    return [Named(id=each.id, label=each.label) for each in visualizations]


def shown_bands(bands: Sequence[SceneBand], *, with_files: bool = True) -> list[ShownBand]:
    """Returns bands with the addresses of their files; a file of the server has none."""
    return [
        ShownBand(name=each.role, resolution=each.resolution, href=address_of(each) if with_files else None) for each in bands
    ]


def address_of(band: SceneBand) -> str | None:
    """Returns the public address of the file that holds a band."""
    return band.href if is_public({"href": band.href}) else None


def as_visualization(spec: VisualizationSpec, roles: Sequence[str]) -> Visualization:
    """Returns a picture whose bands are told by their roles."""
    return Visualization(
        id=spec.id,
        label=spec.label,
        kind=spec.kind,
        bands=None if spec.bands is None else [roles[number - 1] for number in spec.bands],
        expression=spec.expression,
        colormap=spec.colormap,
        rescale=spec.rescale,
        description=spec.description,
    )


def epsg_of(scene: Scene) -> int | None:
    """Returns the EPSG code that the scene or one of its files names, in the old or the new form of STAC's extension."""
    for told in (scene.capture.properties, *scene.capture.assets.values()):
        code = told.get("proj:epsg") or str(told.get("proj:code") or "").removeprefix("EPSG:")
        if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
            return int(code)
    return None


def zooms_of(scene: Scene) -> tuple[int, int]:
    """Returns the zoom levels from the one whose tile holds the whole scene to the one of its finest band."""
    west, _, east, _ = scene.bounds
    finest = min((band.resolution for band in scene.bands if band.resolution), default=scene.capture.gsd or 10.0)
    farthest = min(FARTHEST_ZOOM, max(0, math.ceil(math.log2(EQUATOR_M / TILE_PX / finest))))
    nearest = math.floor(math.log2(360.0 / max(east - west, 1e-9)))
    return max(0, min(nearest, farthest)), farthest


def sensor_of(properties: Mapping[str, Any]) -> str | None:
    """Returns the platform that a scene names."""
    platform = properties.get("platform")
    return platform if isinstance(platform, str) and platform else None


def thumbnail_of(scene: Scene, provider: str, base_url: str) -> str | None:
    """Returns the scene's own preview, else the address of one tile that holds it; None for what cannot be drawn."""
    preview = shown_assets(scene.capture.assets, open_data=False).get("thumbnail")
    if preview is not None:
        return str(preview["href"])
    if not scene.visualizations:
        return None
    z, x, y = tile_showing(scene.bounds)
    asked = {
        "collection": "sample", "provider": provider, "scene_id": scene.capture.id, "visualization": scene.visualizations[0].id,
        "z": z, "x": x, "y": y, "format": "png",
    }  # fmt: skip
    return f"{base_url}/v1/op/catalog.tile.render?{urlencode(asked)}"


def tile_around(bounds: Sequence[float]) -> tuple[int, int, int]:
    """Returns the smallest Web Mercator tile, as z, x, y, that holds these bounds whole."""
    west, south, east, north = bounds
    corners = _on_map(west, north), _on_map(east, south)
    for zoom in range(FARTHEST_ZOOM, 0, -1):
        tiles = {_tile_at(corner, zoom) for corner in corners}
        if len(tiles) == 1:
            x, y = tiles.pop()
            return zoom, x, y
    return 0, 0, 0


def tile_showing(bounds: Sequence[float]) -> tuple[int, int, int]:
    """Returns the Web Mercator tile, as z, x, y, that makes a thumbnail of what lies in these bounds.

    It is the one around them, unless they lie across the edge of large tiles and would hardly be seen on it: then the one at
    their middle, of the smallest tiles that are no smaller than they are.
    """
    west, south, east, north = bounds
    (left, top), (right, bottom) = _on_map(west, north), _on_map(east, south)
    fitting = min(FARTHEST_ZOOM, math.floor(-math.log2(max(right - left, bottom - top, 2.0**-FARTHEST_ZOOM))))
    around = tile_around(bounds)
    if around[0] > fitting - HARDLY_SEEN:
        return around
    return fitting, *_tile_at(((left + right) / 2, (top + bottom) / 2), fitting)


def _on_map(lon: float, lat: float) -> tuple[float, float]:
    """Returns where a place lies on the Web Mercator square, from 0 to 1 eastwards and southwards."""
    bounded = math.radians(max(-85.05, min(85.05, lat)))
    return (lon + 180.0) / 360.0, (1.0 - math.asinh(math.tan(bounded)) / math.pi) / 2.0


def _tile_at(place: tuple[float, float], zoom: int) -> tuple[int, int]:
    count = 2**zoom
    x, y = (min(max(int(each * count), 0), count - 1) for each in place)
    return x, y
