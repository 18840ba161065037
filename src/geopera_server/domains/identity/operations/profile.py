"""Changing an organization's profile, and the settings that its people and its money follow."""

from __future__ import annotations

from typing import Annotated, Any

from psycopg import errors as sql_errors
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from geopera_server.domains.identity.access import is_org_billing, own_organization, require_human, require_org_admin
from geopera_server.domains.identity.operations.organizations import (
    Name,
    OrganizationDetails,
    OrganizationFull,
    as_profile,
    check_profile,
)
from geopera_server.domains.identity.store import organizations
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Conflict, InvalidInput, NotFound
from geopera_server.kernel.operation import operation

MOST_CREDITS = 10**12
EmailDomain = Annotated[
    str, StringConstraints(strip_whitespace=True, to_lower=True, pattern=r"^[^@\s]+\.[^@\s]+$", max_length=253)
]


class SettingsPatch(BaseModel):
    """The settings to change; null brings back the default."""

    model_config = ConfigDict(extra="forbid")

    approval_threshold_credits: int | None = Field(
        None, ge=0, le=MOST_CREDITS, strict=True, description="most that may be charged at once without approval"
    )
    low_credit_threshold: int | None = Field(
        None, ge=0, le=MOST_CREDITS, strict=True, description="balance in credits below which credits.low is told"
    )
    four_eyes: bool | None = Field(None, description="whether approving takes somebody else than who asked")
    require_key_budget: bool | None = Field(None, description="whether an API key spends only within a budget of its own")
    default_region: Annotated[str, StringConstraints(min_length=1, max_length=100)] | None = None
    key_max_days: int | None = Field(None, ge=1, le=36_500, strict=True, description="longest life of a new API key")
    allowed_email_domains: list[EmailDomain] | None = Field(None, max_length=100, description="of members who are invited")


class OrganizationUpdateInput(OrganizationDetails):
    """A merge patch of the profile and, key by key, of the settings: what is not sent stays, null clears."""

    organization_id: str | None = Field(None, description="default: the caller's own")
    name: Name | None = None
    settings: SettingsPatch | None = None


class OrganizationUpdated(BaseModel):
    """The organization as it is now, as organizations.get returns it."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    slug: str


@operation(
    "organizations.update",
    effect="compute",
    scope="organizations:write",
    extension=True,
    example={"description": "Coastal mapping", "settings": {"low_credit_threshold": 5_000}},
)
async def update(ctx: Context, given: OrganizationUpdateInput) -> OrganizationUpdated:
    """Changes the profile and the settings of your organization; what you do not send stays as it is, null clears.

    Settings decide about money and access: only people change them.
    """
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id, to_change=True)
    require_org_admin(ctx.principal)
    if given.settings is not None:
        require_human(ctx.principal)
    if "name" in given.model_fields_set and given.name is None:
        raise InvalidInput("name cannot be cleared.", loc=("name",))
    check_profile(given)
    ctx.touch("organization", organization_id)
    try:
        await organizations.change_organization(ctx.conn, organization_id, _changes(given), ctx.now)
    except sql_errors.UniqueViolation as error:
        raise Conflict("Another organization of yours has that name. Choose another one.") from error
    row = await organizations.organization_of(ctx.conn, organization_id)
    if row is None:
        raise NotFound("organization")
    profile: OrganizationFull = as_profile(row, with_billing=is_org_billing(ctx.principal))
    return OrganizationUpdated.model_validate(profile)


def _changes(given: OrganizationUpdateInput) -> dict[str, Any]:
    """Returns what was sent, as it is stored."""
    changes = given.model_dump(exclude_unset=True, exclude={"organization_id"})
    if changes.get("country") is not None:
        changes["country"] = changes["country"].upper()
    if changes.get("abn") is not None:
        changes["abn"] = changes["abn"].replace(" ", "")
    return changes
