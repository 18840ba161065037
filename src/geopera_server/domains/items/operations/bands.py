"""What the bands of a file show: a suggestion from its pixels, and the names that somebody gives them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime as Time  # noqa: N812  (a field has that name)
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.access import project_access
from geopera_server.domains.items import rules, store
from geopera_server.domains.items.access import require_item_read
from geopera_server.domains.items.changing import about_to_change
from geopera_server.domains.items.models import Name
from geopera_server.domains.items.presenting import as_asset, as_item_response
from geopera_server.domains.items.resolving import is_raster
from geopera_server.domains.items.store import changing
from geopera_server.domains.tiles.addresses import expired, host_of, target_of_asset
from geopera_server.domains.tiles.refusals import done
from geopera_server.domains.visualization.profiles import revalidate_profiles
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import Denied, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.principal import Principal

_EXAMPLE = {"item_id": "0192d3c4-0000-7000-8000-000000000000", "asset_id": "0192d3c4-0000-7000-8000-000000000001"}
MAX_BANDS = 65_535


class DetectBandsInput(BaseModel):
    """Which raster of which item."""

    item_id: str
    asset_id: str


class DetectBandsOutput(BaseModel):
    """The names that the bands have, and those that their pixels suggest; null where nothing is likely."""

    current_band_names: list[str | None] = Field(default_factory=list)
    suggested_band_names: list[str | None] = Field(default_factory=list)
    method: str = "reflectance_ranking"


async def _detected(outside: Outside, given: DetectBandsInput) -> DetectBandsOutput:
    async with outside.connection() as conn:
        item, asset = await _raster(conn, outside.principal, given.item_id, given.asset_id)
    if item["lifecycle_state"] == rules.EXPIRED:
        raise expired()
    target = await target_of_asset(outside, asset)

    def work() -> list[str | None]:
        from geopera_server.raster.bands.ranking import suggested  # noqa: PLC0415
        from geopera_server.raster.bands.sampling import sample_bands  # noqa: PLC0415

        return suggested(sample_bands(target))

    found = await done(outside.ports.renders, work, loc=("asset_id",), host=host_of(target))
    return DetectBandsOutput(current_band_names=[*asset["band_names"]], suggested_band_names=found)


@operation("items.detect_asset_bands", effect="compute", scope="items:read", prepare=_detected, example=_EXAMPLE)
async def detect_asset_bands(
    ctx: Context,
    given: DetectBandsInput,
    found: DetectBandsOutput,
) -> DetectBandsOutput:
    """Suggests what the bands of a raster show, from how well their pixels fit what sensors see; stores nothing.

    The orders of Sentinel-2, Landsat, PlanetScope and aerial cameras are compared. Bands that hold no reflectance, such as
    classes and alpha, stay null; of fewer than three bands only what is certain is named.
    """
    ctx.touch("item", given.item_id)
    ctx.touch("asset", given.asset_id)
    return found


class SetBandNamesInput(BaseModel):
    """The names of a raster's bands, first to last."""

    item_id: str
    asset_id: str
    band_names: list[Name] = Field(max_length=MAX_BANDS)


class AssetOutput(BaseModel):
    """A file of an item as it is stored."""

    model_config = ConfigDict(extra="allow")

    id: str
    item_id: str
    project_id: str
    key: str
    title: str | None = None
    href: str
    media_type: str
    roles: list[str]
    file_name: str
    file_size_bytes: int
    checksum: str | None = None
    band_names: list[str]
    band_count: int | None = None
    dtype: str | None = None
    nodata: float | str | None = None
    epsg: int | None = None
    width: int | None = None
    height: int | None = None
    gsd: float | None = None
    is_cog: bool | None = None
    statistics: list[dict[str, Any]] | None = None
    created_at: Time
    updated_at: Time


@operation(
    "items.set_asset_band_names",
    effect="compute",
    scope="items:write",
    example={**_EXAMPLE, "band_names": ["red", "green", "blue", "nir", "classes"]},
)
async def set_asset_band_names(ctx: Context, given: SetBandNamesInput) -> AssetOutput:
    """Names the bands of a raster; formulas and profiles may use the names from then on.

    Profiles are looked at again: one that uses a name which is gone answers 422 until it is changed. Everybody with a role in
    the project may do this.
    """
    item, _ = await _raster(ctx.conn, ctx.principal, given.item_id, given.asset_id)
    access = await project_access(ctx.conn, ctx.principal, item["project_id"])
    if access.role is None and not access.allows("write"):
        raise Denied("To name bands, have a role in this project. Ask its owner for one.")
    before = await about_to_change(ctx, item["organization_id"], item["id"])
    asset = _named(before.assets, given.asset_id)
    _check_names(given.band_names, asset)
    row = await changing.set_band_names(ctx.conn, item["organization_id"], asset["id"], given.band_names, ctx.now)
    touched = await changing.touch_item(ctx.conn, item["organization_id"], item["id"], ctx.now)
    await revalidate_profiles(ctx, touched, row)
    ctx.touch("item", item["id"])
    ctx.touch("asset", asset["id"])
    ctx.emit("item.updated", ("item", item["id"]), as_item_response(touched), project_id=item["project_id"])
    return AssetOutput.model_validate(as_asset(row))


def _check_names(names: list[str], asset: Row) -> None:
    count = asset["band_count"]
    if count is not None and len(names) != count:
        raise InvalidInput(f"This file has {count} bands, so it takes {count} names, not {len(names)}.", loc=("band_names",))
    if not names:
        raise InvalidInput("Send one name for each band.", loc=("band_names",))
    seen: set[str] = set()
    for number, name in enumerate(names):
        if name.lower() in seen:
            raise InvalidInput(f"Two bands are called {name!r}; every band has a name of its own.", loc=("band_names", number))
        seen.add(name.lower())


async def _raster(conn: Connection, principal: Principal, item_id: str, asset_id: str) -> tuple[Row, Row]:
    """Returns an item that the caller may read and a raster of it; raises NotFound, and InvalidInput for another file."""
    item = await require_item_read(conn, principal, item_id)
    assets = (await store.assets_of(conn, item["organization_id"], [item["id"]]))[item["id"]]
    asset = _named(assets, asset_id)
    if not is_raster(asset):
        raise InvalidInput(f"The asset {asset['key']!r} is no raster and has no bands.", loc=("asset_id",))
    return item, asset


def _named(assets: Sequence[Row], asset_id: str) -> Row:
    asset = next((each for each in assets if each["id"] == asset_id.lower()), None)
    if asset is None:
        raise NotFound("asset")
    return asset
