"""What the operations on open scenes take and answer with."""

from __future__ import annotations

from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any

from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from geopera_server.kernel.paging import MAX_OFFSET


class SceneInfoInput(BaseModel):
    scene_id: str


class SampleInfoInput(BaseModel):
    provider: str
    scene_id: str


class VizListInput(BaseModel):
    pass


class ProviderSamplesInput(BaseModel):
    provider: str
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


class CatalogTileInput(BaseModel):
    """Which tile of which scene, and which of its pictures; `expression` takes the place of the picture's own bands."""

    collection: str
    scene_id: str
    visualization: str
    z: int
    x: int
    y: int
    format: str
    expression: str | None = None
    rescale: str | None = None
    colormap: str | None = None
    provider: str | None = None
    quality: int | None = 95
    aoi_clip: str | None = None
    aoi_clip_body: dict[str, Any] | None = None


class ShownBand(TypedDict):
    """One band of a scene: what it shows, its resolution in metres, and the file that holds it."""

    name: str
    resolution: float | None
    href: str | None


class Named(TypedDict):
    id: str
    label: str


class SentinelInfo(TypedDict):
    scene_id: str
    mission: str
    product_level: str
    datetime: Time
    tile: str
    orbit: int | None
    baseline: str | None
    bounds: list[float]
    epsg: int | None
    bands: list[ShownBand]
    cloud_cover: float | None
    visualizations: list[Named]
    minzoom: int
    maxzoom: int


class LandsatInfo(TypedDict):
    scene_id: str
    sensor: str
    satellite: str
    level: str
    path: int
    row: int
    acquired: str
    processed: str | None
    collection: str
    tier: str
    bounds: list[float] | None
    visualizations: list[Named]


class NaipInfo(TypedDict):
    scene_id: str
    state: str | None
    year: int
    gsd: float
    datetime: Time
    bounds: list[float]
    epsg: int | None
    href: str | None
    bands: list[ShownBand]
    visualizations: list[Named]


class SampleInfo(TypedDict):
    provider: str
    scene_id: str
    sensor: str | None
    stac: dict[str, object]
    bands: list[ShownBand]
    thumbnail_url: str | None
    bounds: list[float]
    visualizations: list[Named]


class Visualization(TypedDict):
    """A picture: its bands are roles, its formula numbers them as listed."""

    id: str
    label: str
    kind: str
    bands: list[str] | None
    expression: str | None
    colormap: str | None
    rescale: str | None
    description: str


class Visualizations(TypedDict):
    visualizations: list[Visualization]


class Provider(TypedDict):
    id: str
    name: str
    sensors: list[str]
    sample_count: int


class SampleSensor(TypedDict):
    """A sensor with samples; `resolution` is the finest one, in metres."""

    id: str
    name: str
    resolution: float | None
    bands: list[str]


class Providers(TypedDict):
    providers: list[Provider]
    sensors: list[SampleSensor]


class Sample(TypedDict):
    scene_id: str
    title: str
    sensor: str | None
    datetime: Time
    bounds: list[float]
    gsd: float | None
    thumbnail_url: str | None


class Samples(TypedDict):
    provider: str
    samples: list[Sample]
    total: int
    limit: int
    offset: int
