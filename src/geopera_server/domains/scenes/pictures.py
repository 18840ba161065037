"""One tile of an open scene or a sample, out of the files that hold its bands."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from geopera_server.domains.catalog.lookup import host_address
from geopera_server.domains.orders.sources import checked_source
from geopera_server.domains.scenes.families import FAMILIES
from geopera_server.domains.scenes.looking import Scene, open_scene, sample_scene
from geopera_server.domains.scenes.names import landsat_name, naip_name, sentinel_name
from geopera_server.domains.scenes.presenting import tile_around
from geopera_server.domains.scenes.shapes import CatalogTileInput
from geopera_server.domains.tiles.drawing import DRAWN_BY, pictured
from geopera_server.domains.tiles.wanted import (
    MEDIA_TYPES,
    Format,
    checked_format,
    checked_place,
    checked_quality,
    read_aoi,
    read_rescale,
)
from geopera_server.domains.visualization.configs import checked_colormap
from geopera_server.domains.visualization.shapes import VisualizationSpec
from geopera_server.kernel.answers import Media, NotModified
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_geometry, to_geojson
from geopera_server.values.encoding import canonical

SAMPLE = "sample"
CUSTOM = "custom"
_NAMES = {"sentinel": sentinel_name, "landsat": landsat_name, "naip": naip_name}


async def scene_tile(outside: Outside, given: CatalogTileInput) -> Media | NotModified:
    """Returns a tile of a scene, transparent where the scene is not.

    Raises what looking the scene up raises, and InvalidInput for what does not fit it.
    """
    place = checked_place(given.z, given.x, given.y)
    made_as, quality = checked_format(given.format), checked_quality(95 if given.quality is None else given.quality)
    aoi = _aoi(given)
    scene = await _scene(outside, given)
    spec = _spec(scene, given)
    asked = {
        "drawn_by": DRAWN_BY,
        "scene": [scene.capture.host, scene.capture.id, scene.capture.properties.get("updated")],
        "files": [[band.href, band.number] for band in scene.bands],
        "spec": spec.model_dump(),
        "place": place,
        "as": [made_as, quality],
        "aoi": aoi,
    }
    work = await _work(outside, scene, spec, place, made_as, quality, aoi)
    return await pictured(
        outside,
        hashlib.sha256(canonical(asked)).hexdigest(),
        work,
        media_type=MEDIA_TYPES[made_as],
        kept="public",
        host=next((urlsplit(_readable(band.href)).hostname for band in scene.bands), None),
        loc=("visualization",) if spec.expression is None else ("expression",),
    )


async def _scene(outside: Outside, given: CatalogTileInput) -> Scene:
    if given.collection == SAMPLE:
        if not given.provider:
            raise InvalidInput("Say whose sample it is. catalog.providers.list names them.", loc=("provider",))
        return await sample_scene(outside, given.provider, given.scene_id)
    family = FAMILIES.get(given.collection)
    if family is None:
        raise InvalidInput(
            f"There are no tiles of {given.collection!r}, but of {', '.join([*FAMILIES, SAMPLE])}.",
            loc=("collection",),
            code="unknown_field_value",
        )
    if _NAMES[family.id](given.scene_id) is None:
        raise InvalidInput(f"This is no name of a {family.title} scene.", loc=("scene_id",))
    return await open_scene(outside, family, given.scene_id)


def _spec(scene: Scene, given: CatalogTileInput) -> VisualizationSpec:
    found = scene.picture(given.visualization)
    if given.expression:
        chosen = found or VisualizationSpec(id=CUSTOM, label="Custom", kind="index")
        chosen = chosen.model_copy(update={"expression": given.expression, "bands": None, "rescale": None})
    elif found is not None:
        chosen = found
    else:
        offered = ", ".join(each.id for each in scene.visualizations) or "none"
        raise InvalidInput(
            f"There is no picture {given.visualization!r} of this scene, but {offered}.",
            loc=("visualization",),
            code="unknown_field_value",
        )
    wishes = {"rescale": given.rescale, "colormap": given.colormap}
    return chosen.model_copy(update={name: value for name, value in wishes.items() if value})


async def _work(
    outside: Outside,
    scene: Scene,
    spec: VisualizationSpec,
    place: tuple[int, int, int],
    made_as: Format,
    quality: int,
    aoi: dict[str, Any] | None,
) -> Callable[[], bytes]:
    """Returns what draws the picture; it may run in any thread."""
    async with outside.connection() as conn:
        host_url = await host_address(conn, scene.capture.host)
    way = outside.ports.addresses.way_to_public(known_host=host_url and urlsplit(host_url).hostname)
    roots = outside.ports.source_roots

    def draw() -> bytes:
        # What opens rasters takes long to load, and no start waits for it.
        from geopera_server.raster.formula import parse  # noqa: PLC0415
        from geopera_server.raster.render import Rendering, Target  # noqa: PLC0415
        from geopera_server.raster.stacking import Layer, stacked_tile  # noqa: PLC0415

        roles = {band.role: number for number, band in enumerate(scene.bands, start=1)}
        formula = None if spec.expression is None else parse(spec.expression, names=roles, band_count=len(roles))
        bands = None if spec.bands is None else tuple(spec.bands)
        shown = len(bands) if bands is not None else 1
        if spec.colormap is not None and shown == 3:
            raise InvalidInput("A colormap colours one band; this picture has three.", loc=("colormap",))
        rendering = Rendering(
            bands=bands,
            formula=formula,
            rescale=None if spec.rescale is None else read_rescale(spec.rescale, shown),
            colormap=None if spec.colormap is None else checked_colormap(spec.colormap, ("colormap",)),
        )
        version = str(scene.capture.properties.get("updated") or "")
        layers = [
            Layer(Target.on_way(checked_source(_readable(band.href), roots=roots), version, way), band.number)
            for band in scene.bands
        ]
        around = tile_around(scene.bounds)
        return stacked_tile(layers, rendering, *place, around=around, format=made_as, quality=quality, aoi=aoi)

    return draw


def _readable(href: str) -> str:
    """Returns the web address of an object in a public bucket; other addresses as they are."""
    for scheme, web in (("s3", "https://{}.s3.amazonaws.com{}"), ("gs", "https://storage.googleapis.com/{}{}")):
        if href.startswith(f"{scheme}://"):
            parts = urlsplit(href)
            return web.format(parts.netloc, parts.path)
    return href


def _aoi(given: CatalogTileInput) -> dict[str, Any] | None:
    """Returns what the picture is clipped to: GeoJSON, GeoJSON text, or that in URL-safe base64."""
    if given.aoi_clip_body is not None:
        return to_geojson(read_geometry(given.aoi_clip_body, loc=("aoi_clip_body",)))
    text = (given.aoi_clip or "").strip()
    if text and not text.startswith("{"):
        text = _decoded(text)
    return read_aoi(text)


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput(
            "aoi_clip is a polygon as GeoJSON text, or that text in URL-safe base64.",
            loc=("aoi_clip",),
            code="invalid_geometry",
        ) from error
