"""The organization's machine credentials: made, listed, revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, StringConstraints
from typing_extensions import TypedDict

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.identity import scopes
from geopera_server.domains.identity.access import require_org_admin, require_org_billing
from geopera_server.domains.identity.bootstrap import create_api_key
from geopera_server.domains.identity.store import keys, organizations
from geopera_server.kernel.context import Context
from geopera_server.kernel.errors import Denied, InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.principal import Principal
from geopera_server.values.clock import iso, iso_or_none

KeyStatus = Literal["active", "expired", "revoked"]
LISTED_AFTER_END = timedelta(days=90)


class ApiKeyCreateInput(BaseModel):
    model_config = ConfigDict(populate_by_name=True)

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    # `scopes` is what sign-in calls them: passed over in silence it would leave a key with more than was meant.
    permissions: list[str] = Field(
        default_factory=list,
        max_length=200,
        validation_alias=AliasChoices("permissions", "scopes"),
        description="scopes or wildcards; none grants the standard set",
    )
    rate_limit: int | None = Field(None, gt=0, le=1_000_000, description="calls per minute")
    expires_in_days: int | None = Field(None, gt=0, le=36_500)


class ApiKeyCreateOutput(BaseModel):
    id: str
    name: str
    prefix: str
    permissions: list[str]
    created_at: str
    expires_at: str | None = None
    key: str | None = None


class ApiKeyListInput(BaseModel):
    pass


class ApiKey(TypedDict):
    id: str
    name: str
    prefix: str
    permissions: list[str]
    rate_limit: int | None
    status: KeyStatus
    created_by: str | None
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None


class ApiKeys(TypedDict):
    api_keys: list[ApiKey]
    total: int


class ApiKeyRevokeInput(BaseModel):
    key_id: str


class ApiKeyRevokeOutput(BaseModel):
    id: str
    ok: bool = True


@operation(
    "api_keys.create",
    effect="share_export",
    scope="api_keys:write",
    idempotent=True,
    secret_id_field="id",  # noqa: S106  (the field that names the made key)
    example={"name": "Nightly orders", "permissions": ["catalog:read", "orders:*"], "expires_in_days": 90},
)
async def create(ctx: Context, given: ApiKeyCreateInput) -> ApiKeyCreateOutput:
    """Makes an API key and shows its secret, this one time.

    Wildcards become the scopes that exist today. Nobody can grant a scope that they do not hold themselves.
    """
    require_org_admin(ctx.principal)
    permissions = grantable(ctx.principal, given.permissions)
    used = await keys.live_key_count(ctx.conn, ctx.organization_id, ctx.now)
    await require_room(ctx.conn, ctx.organization_id, "api_keys", used)
    made = await create_api_key(
        ctx.conn,
        organization_id=ctx.organization_id,
        name=given.name,
        digest=lambda secret: ctx.secrets.digest("api_keys", secret),
        permissions=permissions,
        created_by=ctx.principal.id,
        rate_limit=given.rate_limit,
        expires_at=await _expiry(ctx, given.expires_in_days),
        at=ctx.now,
    )
    row = made.row
    ctx.touch("api_key", row["id"])
    ctx.emit("api_key.created", ("api_key", row["id"]), as_api_key(row, ctx.now))
    return ApiKeyCreateOutput(
        id=row["id"],
        name=row["name"],
        prefix=row["prefix"],
        permissions=row["permissions"],
        created_at=iso(row["created_at"]),
        expires_at=iso_or_none(row["expires_at"]),
        key=made.secret,
    )


@operation("api_keys.list", effect="read", scope="api_keys:read", raw=True, example={})
async def list_keys(ctx: Context, given: ApiKeyListInput) -> ApiKeys:  # noqa: ARG001
    """Lists the organization's API keys, newest first, without their secrets.

    Keys stay listed for 90 days after their end.
    """
    require_org_billing(ctx.principal)
    rows = await keys.keys_of(ctx.conn, ctx.organization_id, ended_after=ctx.now - LISTED_AFTER_END)
    return {"api_keys": [as_api_key(row, ctx.now) for row in rows], "total": len(rows)}


@operation(
    "api_keys.revoke",
    effect="destructive",
    scope="api_keys:write",
    example={"key_id": "0198f1c2-0000-7000-8000-000000000000"},
)
async def revoke(ctx: Context, given: ApiKeyRevokeInput) -> ApiKeyRevokeOutput:
    """Revokes an API key and every token exchanged from it, as of the next call. Revoking twice is no error."""
    before = await keys.revoke_key(ctx.conn, ctx.organization_id, given.key_id, ctx.now)
    if before is None:
        raise NotFound("API key")
    require_org_admin(ctx.principal)
    ctx.touch("api_key", before["id"])
    if before["revoked_at"] is None:
        ctx.emit("api_key.revoked", ("api_key", before["id"]), as_api_key({**before, "revoked_at": ctx.now}, ctx.now))
    return ApiKeyRevokeOutput(id=before["id"])


def grantable(principal: Principal, wanted: list[str]) -> frozenset[str]:
    """Returns the concrete scopes that the wanted ones name; the standard set for none.

    Raises Denied for a scope that the principal does not hold, InvalidInput for one that does not exist.
    """
    named = [scopes.named_by(each, operator=principal.is_operator) for each in wanted]
    granted = frozenset().union(*named) if wanted else scopes.STANDARD_FOR_KEYS
    if lacking := sorted(scope for scope in granted if not principal.holds(scope)):
        raise Denied(f"You cannot grant '{lacking[0]}', since you do not hold it yourself.", code="missing_scope")
    for position, (text, meant) in enumerate(zip(wanted, named, strict=True)):
        if not meant:
            raise InvalidInput(
                f"There is no scope {text[:100]!r}. roles.list names them all.",
                loc=("permissions", position),
            )
    return granted


def as_api_key(row: Row, at: datetime) -> ApiKey:
    """Returns what may be told of a key: never the secret or its digest."""
    return {
        "id": row["id"],
        "name": row["name"],
        "prefix": row["prefix"],
        "permissions": row["permissions"],
        "rate_limit": row["rate_limit"],
        "status": _status(row, at),
        "created_by": row["created_by"],
        "created_at": row["created_at"],
        "expires_at": row["expires_at"],
        "last_used_at": row["last_used_at"],
        "revoked_at": row["revoked_at"],
    }


def _status(row: Row, at: datetime) -> KeyStatus:
    if row["revoked_at"] is not None:
        return "revoked"
    return "expired" if row["expires_at"] is not None and row["expires_at"] <= at else "active"


async def _expiry(ctx: Context, days: int | None) -> datetime | None:
    """Returns when the key ends: at the latest when the organization's own setting says."""
    organization = await organizations.organization_of(ctx.conn, ctx.organization_id)
    longest = None if organization is None else organization["settings"].get("key_max_days")
    if longest is not None and days is not None and days > longest:
        raise InvalidInput(f"Your organization's keys last at most {longest} days.", loc=("expires_in_days",))
    days = days if days is not None else longest
    return None if days is None else ctx.now + timedelta(days=days)
