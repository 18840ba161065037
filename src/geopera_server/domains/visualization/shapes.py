"""The shapes that visualization operations take and answer with."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel
from typing_extensions import TypedDict


class ProfileLayer(StrEnum):
    """Who described the picture: a sensor's rules, an asset's statistics, or somebody."""

    sensor = "sensor"
    auto = "auto"
    user = "user"


class ProfileType(StrEnum):
    """What a picture is made of."""

    rgb = "rgb"
    singleband = "singleband"
    multiband = "multiband"
    expression = "expression"


class ProfileResponse(BaseModel):
    """A way to show an item."""

    id: str
    item_id: str
    name: str
    layer: ProfileLayer
    type: ProfileType
    config: dict[str, Any]
    asset_key: str | None = None
    is_default: bool = False
    sort_order: int = 0
    version: int = 1
    created_by: str | None = None
    created_at: datetime
    updated_at: datetime


class ProfileBody(TypedDict):
    """A way to show an item, as raw replies hold it."""

    id: str
    item_id: str
    name: str
    layer: str
    type: str
    config: dict[str, Any]
    asset_key: str | None
    is_default: bool
    sort_order: int
    version: int
    created_by: str | None
    created_at: datetime
    updated_at: datetime


class ProfileList(TypedDict):
    """The ways to show an item."""

    profiles: list[ProfileBody]
    total: int
    default_id: str | None


class OkOutput(BaseModel):
    """What was removed."""

    id: str
    ok: bool = True


class VisualizationSpec(BaseModel):
    """A picture that a raster offers; `bands` are 1-based, `rescale` is `min,max`."""

    id: str
    label: str
    kind: Literal["rgb", "index", "elevation", "raw"]
    asset: str | None = None
    bands: list[int] | None = None
    expression: str | None = None
    rescale: str | None = None
    colormap: str | None = None
    description: str = ""
    category: str | None = None
    is_default: bool = False


class VisualizationListOutput(BaseModel):
    """The pictures that data of a kind offers, and which to begin with."""

    visualizations: list[VisualizationSpec] = []
    default_id: str = ""
