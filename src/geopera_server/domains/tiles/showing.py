"""What is shown of an item: which file, which of its bands, in which colours."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geopera_server.db.pool import Row
from geopera_server.domains.identity.access import reads_everywhere
from geopera_server.domains.items.resolving import data_asset
from geopera_server.domains.items.rules import EXPIRED
from geopera_server.domains.tiles import store
from geopera_server.domains.tiles.addresses import expired, host_of, target_of_asset
from geopera_server.domains.tiles.refusals import done
from geopera_server.domains.tiles.wanted import read_bands, read_rescale
from geopera_server.domains.visualization.bands import Bands
from geopera_server.domains.visualization.configs import Picture, checked_colormap, formula_of, picture_of, span_of
from geopera_server.domains.visualization.offering import Offer, offer_of
from geopera_server.domains.visualization.shapes import VisualizationSpec
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import is_id
from geopera_server.values.periods import month_of

if TYPE_CHECKING:
    from geopera_server.raster.readers import Target
    from geopera_server.raster.render import Rendering


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller says of the picture; None leaves it to the profile, and without one to the item's default."""

    profile: str | None = None
    asset_key: str | None = None
    bands: str | None = None
    expression: str | None = None
    rescale: str | None = None
    colormap: str | None = None

    @property
    def draws_anew(self) -> bool:
        """Says whether the caller names what is shown, so that nothing of a profile remains."""
        return self.bands is not None or self.expression is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """An item and the picture of it: `id` and `label` name the picture where it has a name."""

    item: Row
    asset: Row
    offer: Offer
    target: Target
    picture: Picture
    id: str | None
    label: str | None


async def item_for(outside: Outside, item_id: str, profile: str | None, *, principal: Principal | None = None) -> Row:
    """Returns a live item that the caller may read, with its assets and the profile asked for, in one round trip.

    Raises NotFound for everything else, Gone for an expired one.
    """
    caller = principal or outside.principal
    row = None
    if is_id(item_id):
        async with outside.connection() as conn:
            row = await store.shown_item(
                conn,
                item_id,
                profile=profile,
                organization_id=caller.organization_id,
                everywhere=reads_everywhere(caller),
                month=month_of(outside.now).start.date(),
            )
    if row is None or not caller.reaches(row["id"], row["collection_id"]):
        raise NotFound("item")
    if row["lifecycle_state"] == EXPIRED:
        raise expired()
    return row


async def shown_of(outside: Outside, item: Row, wishes: Wishes) -> Shown:
    """Returns what is shown of an item as `item_for` gives it; raises NotFound for an asset or profile that it has not.

    Raises InvalidInput for a vector, and for bands, formulas, spans and colormaps that do not fit.
    """
    item = _without_lost_default(item, wishes)
    asset = _asset(item, wishes)
    target = await target_of_asset(outside, asset)
    asset = await _measured(outside, asset, target)
    offer = offer_of(asset, item["properties"])
    picture, picture_id, label = _picture(item, offer, wishes)
    return Shown(item=item, asset=asset, offer=offer, target=target, picture=picture, id=picture_id, label=label)


def _without_lost_default(item: Row, wishes: Wishes) -> Row:
    """Returns the item without its default profile when the file of that one has been deleted."""
    key = item["profile_asset_key"]
    if wishes.profile is not None or key is None or any(asset["key"] == key for asset in item["assets"]):
        return item
    return {**item, "profile_id": None, "profile_asset_key": None}


def _asset(item: Row, wishes: Wishes) -> Row:
    """Returns the file that is shown: the one named, else the profile's, else the first raster with data."""
    key = wishes.asset_key
    if key is None and item["profile_id"] is not None and not (wishes.draws_anew and wishes.profile is None):
        key = item["profile_asset_key"]
    return data_asset(item["assets"], key)


async def _measured(outside: Outside, asset: Row, target: Target) -> Row:
    """Returns the asset with its bands; those of a file that nobody has measured are read from it."""
    if asset["band_count"] is not None:
        return asset
    from geopera_server.raster.render import info  # noqa: PLC0415

    found = await done(outside.ports.renders, lambda: info(target), loc=("item_id",), host=host_of(target))
    names = asset["band_names"] or list(found.band_names)
    return {**asset, "band_count": found.band_count, "band_names": names, "dtype": found.dtype}


def _picture(item: Row, offer: Offer, wishes: Wishes) -> tuple[Picture, str | None, str | None]:
    bands = offer.bands
    if wishes.draws_anew:
        return _drawn_anew(bands, wishes), None, None
    of_asset = wishes.profile is not None or wishes.asset_key in (None, item["profile_asset_key"])
    if item["profile_id"] is not None and of_asset:
        picture = _of_profile(item, bands)
        return _overridden(picture, wishes), item["profile_id"], item["profile_name"]
    spec = offer.picture(wishes.profile)
    if spec is None:
        raise NotFound("profile")
    return _overridden(picture_of_spec(spec, bands), wishes), spec.id, spec.label


def _drawn_anew(bands: Bands, wishes: Wishes) -> Picture:
    if wishes.bands is not None and wishes.expression is not None:
        raise InvalidInput("A picture is made of bands or of an expression, not of both. Leave one out.", loc=("expression",))
    if wishes.expression is not None:
        return _overridden(Picture(formula=formula_of(wishes.expression, bands, ("expression",))), wishes)
    assert wishes.bands is not None
    return _overridden(Picture(bands=read_bands(wishes.bands, bands)), wishes)


def _of_profile(item: Row, bands: Bands) -> Picture:
    try:
        return picture_of(item["profile_type"], item["profile_config"], bands)
    except InvalidInput as error:
        raise InvalidInput(
            f"The profile {item['profile_name']!r} does not fit the file any more. {error.detail} Change it with"
            " visualization.profile.update.",
            loc=("profile",),
        ) from error


def _overridden(picture: Picture, wishes: Wishes) -> Picture:
    changes: dict[str, Any] = {}
    shown = 1 if picture.bands is None else len(picture.bands)
    if wishes.rescale is not None:
        changes["rescale"] = read_rescale(wishes.rescale, shown)
    if wishes.colormap is not None:
        if shown > 1:
            raise InvalidInput("A colormap colours one band or an expression, not three bands.", loc=("colormap",))
        changes["colormap"] = checked_colormap(wishes.colormap, ("colormap",))
    return dataclasses.replace(picture, **changes) if changes else picture


def picture_of_spec(spec: VisualizationSpec, bands: Bands) -> Picture:
    """Returns what a picture that a raster offers is made of."""
    shown = 1 if spec.bands is None else len(spec.bands)
    rescale = None if spec.rescale is None else (span_of(spec.rescale, ("rescale",)),) * shown
    if spec.expression is not None:
        formula = formula_of(spec.expression, bands, ("profile",))
        return Picture(formula=formula, rescale=rescale, colormap=spec.colormap)
    return Picture(bands=tuple(spec.bands or (1,)), rescale=rescale, colormap=spec.colormap)


def rendering_of(picture: Picture) -> Rendering:
    """Returns the picture as the renderer takes it."""
    from geopera_server.raster.render import Rendering  # noqa: PLC0415

    return Rendering(bands=picture.bands, formula=picture.formula, rescale=picture.rescale, colormap=picture.colormap)
