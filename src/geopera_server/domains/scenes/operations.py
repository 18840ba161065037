"""What open scenes and samples are, for anybody who asks."""

from __future__ import annotations

from typing import Any

from geopera_server.domains.catalog.reading import shown_assets
from geopera_server.domains.scenes import store
from geopera_server.domains.scenes.families import LANDSAT, NAIP, SENTINEL, Family, offered
from geopera_server.domains.scenes.looking import Scene, open_scene, sample_scene, sample_scenes
from geopera_server.domains.scenes.names import landsat_name, naip_name, sentinel_name
from geopera_server.domains.scenes.pictures import scene_tile
from geopera_server.domains.scenes.presenting import (
    address_of,
    as_visualization,
    epsg_of,
    named,
    sensor_of,
    shown_bands,
    thumbnail_of,
    zooms_of,
)
from geopera_server.domains.scenes.shapes import (
    CatalogTileInput,
    LandsatInfo,
    NaipInfo,
    Provider,
    Providers,
    ProviderSamplesInput,
    Sample,
    SampleInfo,
    SampleInfoInput,
    Samples,
    SampleSensor,
    SceneInfoInput,
    SentinelInfo,
    Visualizations,
    VizListInput,
)
from geopera_server.kernel.answers import Media, NotModified
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import InvalidInput, NotFound, Unavailable
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import clamped

_SENTINEL_EXAMPLE = {"scene_id": "S2A_29RKH_20200219_0_L2A"}
_LANDSAT_EXAMPLE = {"scene_id": "LC08_L2SP_001062_20201031_02_T2"}
_NAIP_EXAMPLE = {"scene_id": "mt_m_4911664_se_11_060_20231117_20240103"}
_SAMPLE_EXAMPLE = {"provider": "my-archive", "scene_id": "FLIGHT_20240501_07"}


@operation("catalog.info.sentinel", effect="read", scope="tiles:read", raw=True, public=True, example=_SENTINEL_EXAMPLE)
async def sentinel(outside: Outside, given: SceneInfoInput) -> SentinelInfo:
    """Tells what a Sentinel-2 scene is, which bands it has and which pictures they offer."""
    name = sentinel_name(given.scene_id)
    if name is None:
        raise _unreadable("Sentinel-2", _SENTINEL_EXAMPLE["scene_id"])
    scene = await open_scene(outside, SENTINEL, given.scene_id)
    nearest, farthest = zooms_of(scene)
    told = scene.capture.properties
    return SentinelInfo(
        scene_id=scene.capture.id,
        mission=name.mission,
        product_level=name.product_level,
        datetime=scene.capture.captured_at,
        tile=name.tile,
        orbit=name.orbit if name.orbit is not None else told.get("sat:relative_orbit"),
        baseline=name.baseline or told.get("s2:processing_baseline"),
        bounds=scene.bounds,
        epsg=epsg_of(scene),
        bands=shown_bands(scene.bands),
        cloud_cover=scene.capture.cloud_cover,
        visualizations=named(scene.visualizations),
        minzoom=nearest,
        maxzoom=farthest,
    )


@operation("catalog.info.landsat", effect="read", scope="tiles:read", raw=True, public=True, example=_LANDSAT_EXAMPLE)
async def landsat(outside: Outside, given: SceneInfoInput) -> LandsatInfo:
    """Tells what the name of a Landsat scene says, where it lies and which pictures it offers.

    While no host answers, the name is read all the same and `bounds` is null.
    """
    name = landsat_name(given.scene_id)
    if name is None:
        raise _unreadable("Landsat Collection 2", _LANDSAT_EXAMPLE["scene_id"])
    try:
        scene = await open_scene(outside, LANDSAT, given.scene_id)
    except Unavailable:
        scene = None
    return LandsatInfo(
        scene_id=given.scene_id,
        sensor=name.sensor,
        satellite=name.satellite,
        level=name.level,
        path=name.path,
        row=name.row,
        acquired=name.acquired.isoformat(),
        processed=None if name.processed is None else name.processed.isoformat(),
        collection=name.collection,
        tier=name.tier,
        bounds=None if scene is None else scene.bounds,
        visualizations=named(offered(LANDSAT) if scene is None else scene.visualizations),
    )


@operation("catalog.info.naip", effect="read", scope="tiles:read", raw=True, public=True, example=_NAIP_EXAMPLE)
async def naip(outside: Outside, given: SceneInfoInput) -> NaipInfo:
    """Tells what a NAIP scene is, which bands it has and which pictures they offer."""
    name = naip_name(given.scene_id)
    if name is None:
        raise _unreadable("NAIP", _NAIP_EXAMPLE["scene_id"])
    scene = await open_scene(outside, NAIP, given.scene_id)
    if not scene.bands:
        raise NotFound(detail=f"{given.scene_id} has no image at {scene.capture.host}.")
    told = scene.capture.properties
    return NaipInfo(
        scene_id=scene.capture.id,
        state=name.state or told.get("naip:state"),
        year=name.year,
        gsd=scene.capture.gsd or name.gsd,
        datetime=scene.capture.captured_at,
        bounds=scene.bounds,
        epsg=epsg_of(scene),
        href=address_of(scene.bands[0]),
        bands=shown_bands(scene.bands),
        visualizations=named(scene.visualizations),
    )


@operation("catalog.info.sample", effect="read", scope="tiles:read", raw=True, public=True, example=_SAMPLE_EXAMPLE)
async def sample(outside: Outside, given: SampleInfoInput) -> SampleInfo:
    """Tells what a sample scene is and which pictures it offers; its files themselves are not given out."""
    scene = await sample_scene(outside, given.provider, given.scene_id)
    return SampleInfo(
        provider=scene.capture.host,
        scene_id=scene.capture.id,
        sensor=sensor_of(scene.capture.properties),
        stac=_as_feature(scene),
        bands=shown_bands(scene.bands, with_files=False),
        thumbnail_url=thumbnail_of(scene, given.provider, outside.links.base_url),
        bounds=scene.bounds,
        visualizations=named(scene.visualizations),
    )


def _as_feature(scene: Scene) -> dict[str, Any]:
    capture = scene.capture
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": capture.id,
        "collection": capture.collection,
        "geometry": capture.footprint,
        "bbox": scene.bounds,
        "properties": capture.properties,
        "assets": shown_assets(capture.assets, open_data=False),
        "links": [],
    }


@operation("catalog.viz.landsat", effect="read", scope="tiles:read", raw=True, public=True)
async def viz_landsat(ctx: Context, given: VizListInput) -> Visualizations:  # noqa: ARG001
    """Lists the pictures that every Landsat scene offers; formulas number the bands coastal to swir22 from 1."""
    return _visualizations(LANDSAT)


@operation("catalog.viz.naip", effect="read", scope="tiles:read", raw=True, public=True)
async def viz_naip(ctx: Context, given: VizListInput) -> Visualizations:  # noqa: ARG001
    """Lists the pictures that every NAIP scene offers; formulas number red, green, blue and near infrared from 1."""
    return _visualizations(NAIP)


def _visualizations(family: Family) -> Visualizations:
    return Visualizations(visualizations=[as_visualization(each, family.typical) for each in offered(family)])


@operation("catalog.providers.list", effect="read", scope="tiles:read", raw=True, public=True)
async def providers(outside: Outside, given: VizListInput) -> Providers:  # noqa: ARG001
    """Lists who has sample scenes to look at, and the sensors they are of."""
    async with outside.connection() as conn:
        rows, newest = await store.samples_by_host(conn), await store.sample_of_each_platform(conn)
    found: dict[str, Provider] = {}
    finest: dict[str, float | None] = {}
    for row in rows:
        provider = found.setdefault(row["id"], Provider(id=row["id"], name=row["name"], sensors=[], sample_count=0))
        provider["sample_count"] += row["samples"]
        if row["platform"]:
            provider["sensors"].append(row["platform"])
            finest[row["platform"]] = min((each for each in (finest.get(row["platform"]), row["gsd"]) if each), default=None)
    scenes = await sample_scenes(outside, [(row["host"], row["id"]) for row in newest])
    sensors = [
        SampleSensor(
            id=row["platform"],
            name=row["platform"].title(),
            resolution=finest.get(row["platform"]),
            bands=[band.role for band in scene.bands],
        )
        for row, scene in zip(newest, scenes, strict=True)
    ]
    return Providers(providers=list(found.values()), sensors=sensors)


@operation(
    "catalog.provider.samples",
    effect="read",
    scope="tiles:read",
    raw=True,
    public=True,
    example={"provider": "my-archive", "limit": 10},
)
async def samples(outside: Outside, given: ProviderSamplesInput) -> Samples:
    """Lists the sample scenes of a provider, newest first."""
    limit = clamped(given.limit)
    async with outside.connection() as conn:
        counts = [row["samples"] for row in await store.samples_by_host(conn) if row["id"] == given.provider]
        rows = await store.samples_page(conn, given.provider, limit=limit, offset=given.offset)
    if not counts:
        raise NotFound(detail=f"{given.provider!r} has no samples. catalog.providers.list names who has.")
    scenes = await sample_scenes(outside, [(given.provider, row["id"]) for row in rows])
    shown = [_as_sample(each, given.provider, outside.links.base_url) for each in scenes]
    return Samples(provider=given.provider, samples=shown, total=sum(counts), limit=limit, offset=given.offset)


def _as_sample(scene: Scene, provider: str, base_url: str) -> Sample:
    title = scene.capture.properties.get("title")
    return Sample(
        scene_id=scene.capture.id,
        title=title if isinstance(title, str) and title else scene.capture.id,
        sensor=sensor_of(scene.capture.properties),
        datetime=scene.capture.captured_at,
        bounds=scene.bounds,
        gsd=scene.capture.gsd,
        thumbnail_url=thumbnail_of(scene, provider, base_url),
    )


@operation(
    "catalog.tile.render",
    effect="read",
    scope="tiles:read",
    raw=True,
    public=True,
    media_type="image/webp",
    rate_class="tiles",
    example={
        **_SENTINEL_EXAMPLE,
        "collection": "sentinel",
        "visualization": "true_color",
        "z": 8,
        "x": 119,
        "y": 109,
        "format": "webp",
    },
)
async def tile(outside: Outside, given: CatalogTileInput) -> Media | NotModified:
    """Draws a tile of an open scene or of a sample in one of its pictures, or by a formula of your own.

    Bands are called by what they show, as red or nir, or b1, b2 … in the order in which catalog.info.* lists them.
    """
    return await scene_tile(outside, given)


def _unreadable(what: str, example: str) -> InvalidInput:
    return InvalidInput(f"This is no name of a {what} scene, such as {example}.", loc=("scene_id",))
