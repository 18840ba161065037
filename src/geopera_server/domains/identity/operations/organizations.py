"""Organizations: made by whoever needs one, read by their members."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, NotRequired

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.identity import rules
from geopera_server.domains.identity.access import is_org_billing, own_organization, require_human
from geopera_server.domains.identity.bootstrap import Profile, create_organization
from geopera_server.domains.identity.lineage import project_state
from geopera_server.domains.identity.presenting import as_project_response
from geopera_server.domains.identity.store import organizations, users
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import is_id

DEFAULT_SETTINGS: dict[str, Any] = {
    "low_credit_threshold": None,
    "four_eyes": True,
    "require_key_budget": False,
    "default_region": "australia-southeast1",
    "key_max_days": None,
    "allowed_email_domains": [],
}


def _none_for_blank(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=2_000)]
OptionalText = Annotated[Text | None, BeforeValidator(_none_for_blank)]


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]


class OrganizationDetails(BaseModel):
    """What a profile holds besides its name."""

    description: OptionalText = None
    website: OptionalText = None
    industry: OptionalText = None
    size: OptionalText = None
    country: OptionalText = Field(None, description="two letters, ISO 3166-1")
    abn: OptionalText = Field(None, description="Australian Business Number, 11 digits")
    tax_number: OptionalText = None
    billing_email: OptionalText = Field(None, description="default: the address of whoever made the organization")
    billing_address: dict[str, Any] | None = None


class OrganizationCreateInput(OrganizationDetails):
    name: Name
    billing_admin_id: OptionalText = Field(None, description="a user who gets the role billing")
    enterprise_billing: bool = Field(False, description="a request, unless an operator calls")


class OrganizationCreateOutput(BaseModel):
    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    slug: str
    enterprise_billing: bool


class OrganizationListInput(BaseModel):
    pass


class OrganizationSummary(TypedDict):
    id: str
    name: str
    slug: str
    role: str | None
    plan: str
    standing: str
    enterprise_billing: bool


class Organizations(TypedDict):
    organizations: list[OrganizationSummary]
    total: int


class OrganizationGetInput(BaseModel):
    organization_id: str | None = Field(None, description="default: the caller's own")


class OrganizationFull(TypedDict):
    id: str
    name: str
    slug: str
    description: str | None
    website: str | None
    industry: str | None
    size: str | None
    country: str | None
    enterprise_billing: bool
    settings: dict[str, Any]
    member_count: int
    plan: str
    standing: str
    created_at: datetime
    abn: NotRequired[str | None]
    tax_number: NotRequired[str | None]
    billing_email: NotRequired[str | None]
    billing_address: NotRequired[dict[str, Any] | None]


@operation(
    "organizations.create",
    effect="compute",
    scope="organizations:write",
    idempotent=True,
    example={"name": "Harbour Surveys", "country": "AU"},
)
async def create(ctx: Context, given: OrganizationCreateInput) -> OrganizationCreateOutput:
    """Makes an organization with the caller as its owner and a first project.

    Only operators switch post-paid billing on; for others it is noted as a request.
    """
    human_id = require_human(ctx.principal)
    check_profile(given)
    caller = await users.user_of(ctx.conn, human_id)
    if given.billing_admin_id is not None:
        await _check_billing_admin(ctx, given.billing_admin_id)
    may_switch_on = ctx.principal.is_operator
    made = await create_organization(
        ctx.conn,
        name=given.name,
        owner_id=human_id,
        at=ctx.now,
        profile=_profile(given, default_email=None if caller is None else caller["email"]),
        enterprise_billing=given.enterprise_billing and may_switch_on,
        enterprise_requested=given.enterprise_billing and not may_switch_on,
    )
    organization, project = made.organization, made.default_project
    if given.billing_admin_id not in {None, human_id}:
        await organizations.add_member(ctx.conn, organization["id"], given.billing_admin_id, "billing", ctx.now)
    # What is recorded from here on belongs to the organization that has just come to be.
    ctx.principal = replace(ctx.principal, organization_id=organization["id"], organization_role="owner")
    ctx.touch("organization", organization["id"])
    ctx.lineage.edge(("project", project["id"]), state=project_state(project))
    ctx.emit("project.created", ("project", project["id"]), as_project_response(project), project_id=project["id"])
    return OrganizationCreateOutput(
        id=organization["id"],
        name=organization["name"],
        slug=organization["slug"],
        enterprise_billing=organization["billing_mode"] == "enterprise",
        enterprise_billing_requested=organization["enterprise_requested"],
        role="owner",
        default_project_id=project["id"],
        created_at=organization["created_at"],
    )


@operation("organizations.list", effect="read", scope="organizations:read", raw=True, extension=True, example={})
async def list_organizations(ctx: Context, given: OrganizationListInput) -> Organizations:  # noqa: ARG001
    """Lists the organizations that the caller belongs to; an API key has exactly one."""
    listed = await organizations_of(ctx)
    return {"organizations": listed, "total": len(listed)}


@operation("organizations.get", effect="read", scope="organizations:read", raw=True, extension=True, example={})
async def get(ctx: Context, given: OrganizationGetInput) -> OrganizationFull:
    """Returns the organization's profile and settings; tax and address only to those who see its bills."""
    organization_id = await own_organization(ctx.conn, ctx.principal, given.organization_id)
    row = await organizations.organization_of(ctx.conn, organization_id)
    if row is None:
        raise NotFound("organization")
    ctx.touch("organization", row["id"])
    return as_profile(row, with_billing=is_org_billing(ctx.principal))


def as_profile(row: Row, *, with_billing: bool) -> OrganizationFull:
    """Returns an organization as its members see it; tax and address only for those who see its bills."""
    profile: OrganizationFull = {
        "id": row["id"],
        "name": row["name"],
        "slug": row["slug"],
        "description": row["description"],
        "website": row["website"],
        "industry": row["industry"],
        "size": row["size"],
        "country": row["country"],
        "enterprise_billing": row["billing_mode"] == "enterprise",
        "settings": {
            "approval_threshold_credits": row["default_approval_threshold"],
            **DEFAULT_SETTINGS,
            **{name: value for name, value in row["settings"].items() if value is not None},
        },
        "member_count": row["member_count"],
        "plan": row["plan_id"],
        "standing": row["standing"],
        "created_at": row["created_at"],
    }
    if with_billing:
        profile["abn"] = row["abn"]
        profile["tax_number"] = row["tax_number"]
        profile["billing_email"] = row["billing_email"]
        profile["billing_address"] = row["billing_address"]
    return profile


async def organizations_of(ctx: Context) -> list[OrganizationSummary]:
    """Returns the organizations that the caller belongs to."""
    if ctx.principal.user_id is not None:
        return [
            _summary(row, row["role"]) for row in await organizations.organizations_of_user(ctx.conn, ctx.principal.user_id)
        ]
    own = await organizations.organization_of(ctx.conn, ctx.organization_id)
    return [] if own is None else [_summary(own, None)]


def _summary(row: Row, role: str | None) -> OrganizationSummary:
    return {
        "id": row["id"],
        "name": row["name"],
        "slug": row["slug"],
        "role": role,
        "plan": row["plan_id"],
        "standing": row["standing"],
        "enterprise_billing": row["billing_mode"] == "enterprise",
    }


def check_profile(given: OrganizationDetails) -> None:
    """Raises InvalidInput for a website, country, business number or address that cannot be one."""
    if given.website is not None and not rules.is_website(given.website):
        raise InvalidInput("website must be an http or https address.", loc=("website",))
    if given.country is not None and not (len(given.country) == 2 and given.country.isascii() and given.country.isalpha()):
        raise InvalidInput("country must be the two letters of ISO 3166-1.", loc=("country",))
    if given.abn is not None and not rules.is_abn(given.abn):
        raise InvalidInput("abn is no Australian Business Number: its check sum is wrong.", loc=("abn",))
    if given.billing_email is not None and not rules.is_email(given.billing_email):
        raise InvalidInput("billing_email is no mail address.", loc=("billing_email",))


async def _check_billing_admin(ctx: Context, user_id: str) -> None:
    if not is_id(user_id) or await users.user_of(ctx.conn, user_id) is None:
        raise InvalidInput("billing_admin_id is no known user.", loc=("billing_admin_id",))


def _profile(given: OrganizationCreateInput, *, default_email: str | None) -> Profile:
    return Profile(
        description=given.description,
        website=given.website,
        industry=given.industry,
        size=given.size,
        country=None if given.country is None else given.country.upper(),
        abn=None if given.abn is None else given.abn.replace(" ", ""),
        tax_number=given.tax_number,
        billing_email=given.billing_email or default_email,
        billing_address=given.billing_address,
    )
