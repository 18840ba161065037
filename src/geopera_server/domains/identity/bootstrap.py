"""Makes users, organizations, projects and keys; operations, seeding and the first start share these.

All of them write into the caller's transaction and check the rows' own rules. Whether the caller may do it is not asked here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity import passwords, rules, scopes
from geopera_server.domains.identity.store import keys, organizations, projects, users
from geopera_server.kernel.errors import Conflict, InvalidInput
from geopera_server.ledger.postings import open_account
from geopera_server.values.ids import new_id

DEFAULT_REGION = "australia-southeast1"
DEFAULT_PROJECT_NAME = "Default"
Digest = Callable[[str], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What an organization says of itself beside its name."""

    description: str | None = None
    website: str | None = None
    industry: str | None = None
    size: str | None = None
    country: str | None = None
    abn: str | None = None
    tax_number: str | None = None
    billing_email: str | None = None
    billing_address: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrganization:
    """An organization just made, with the project it starts with."""

    organization: Row
    default_project: Row


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """An API key just made; the secret is nowhere else."""

    row: Row
    secret: str = field(repr=False)


async def create_user(
    conn: Connection,
    *,
    email: str,
    password: str | None,
    at: datetime,
    display_name: str | None = None,
    operator: bool = False,
) -> Row:
    """Adds a human and returns the row; without a password nobody can sign in as them yet.

    Raises InvalidInput for an address or password that is not taken, Conflict for an address in use.
    """
    if not rules.is_email(email):
        raise InvalidInput("This is no mail address.", loc=("email",))
    if password is not None and (refusal := rules.password_refusal(password, email=email)):
        raise InvalidInput(refusal, loc=("password",))
    if await users.user_named(conn, email) is not None:
        raise Conflict("Somebody has this mail address already. Use another one, or sign in.")
    return await users.insert_user(
        conn,
        {
            "id": new_id(),
            "email": email,
            "username": email,
            "display_name": display_name,
            "password_hash": None if password is None else await passwords.hashed(password),
            "operator": operator,
            "at": at,
        },
    )


async def create_organization(
    conn: Connection,
    *,
    name: str,
    owner_id: str | None,
    at: datetime,
    profile: Profile | None = None,
    enterprise_billing: bool = False,
    enterprise_requested: bool = False,
) -> NewOrganization:
    """Adds an organization with its ledger account, its owner and a first project; returns both rows.

    Raises Conflict when the same owner already made one of that name.
    """
    if owner_id is not None and await organizations.has_made_one_named(conn, owner_id, name):
        raise Conflict("You already made an organization of this name. Choose another name.")
    wanted_slug = rules.slug_of(name)
    profile = profile or Profile()
    organization = await organizations.insert_organization(
        conn,
        {
            **{each: getattr(profile, each) for each in Profile.__slots__},
            "id": new_id(),
            "name": name,
            "slug": rules.free_slug(wanted_slug, await organizations.slugs_like(conn, wanted_slug)),
            "billing_mode": "enterprise" if enterprise_billing else "prepaid",
            "enterprise_requested": enterprise_requested,
            "created_by": owner_id,
            "at": at,
        },
    )
    await open_account(conn, organization["id"])
    if owner_id is not None:
        await organizations.add_member(conn, organization["id"], owner_id, "owner", at)
    project = await create_project(
        conn, organization_id=organization["id"], name=DEFAULT_PROJECT_NAME, owner_id=owner_id, at=at
    )
    return NewOrganization(organization=organization, default_project=project)


async def create_project(
    conn: Connection,
    *,
    organization_id: str,
    name: str,
    owner_id: str | None,
    at: datetime,
    description: str | None = None,
    region: str = DEFAULT_REGION,
) -> Row:
    """Adds a project and its owner, and returns the row. Raises Conflict for a name in use."""
    if await projects.name_is_taken(conn, organization_id, name):
        raise Conflict("Your organization has a project of this name. Choose another name.")
    project_id = new_id()
    row = await projects.insert_project(
        conn,
        {
            "id": project_id,
            "organization_id": organization_id,
            "name": name,
            "description": description,
            "region": region,
            "storage_prefix": f"projects/{project_id}",
            "at": at,
        },
    )
    if owner_id is not None:
        await projects.set_owner(conn, project_id, owner_id, at)
    return row


async def create_api_key(
    conn: Connection,
    *,
    organization_id: str,
    name: str,
    digest: Digest,
    at: datetime,
    permissions: Iterable[str] | None = None,
    created_by: str | None = None,
    rate_limit: int | None = None,
    expires_at: datetime | None = None,
) -> NewKey:
    """Adds a key with these concrete scopes (the standard set without any) and returns it with its secret.

    `digest` is the keyed digest that credentials are looked up by: HMAC-SHA256 under the key for `api_keys`.
    """
    secret = rules.new_key_secret()
    row = await keys.insert_key(
        conn,
        {
            "id": new_id(),
            "organization_id": organization_id,
            "name": name,
            "prefix": secret[: rules.KEY_PREFIX_LENGTH],
            "secret_hash": digest(secret),
            "permissions": sorted(permissions or scopes.STANDARD_FOR_KEYS),
            "rate_limit": rate_limit,
            "created_by": created_by,
            "expires_at": expires_at,
            "at": at,
        },
    )
    return NewKey(row=row, secret=secret)
