"""Making share links, looking after them, and ending them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime, BaseModel, Field, SecretStr

from geopera_server.db.pool import Row
from geopera_server.domains.billing.limits import require_room
from geopera_server.domains.identity.access import reads_everywhere, require_project_read
from geopera_server.domains.sharing import passwords, rules
from geopera_server.domains.sharing.ending import record_end
from geopera_server.domains.sharing.lineage import link_state
from geopera_server.domains.sharing.presenting import as_share_link
from geopera_server.domains.sharing.shapes import ShareLinkDetail, ShareLinkPage
from geopera_server.domains.sharing.store import links as store
from geopera_server.domains.sharing.targets import TargetType, require_change, require_sharable
from geopera_server.domains.sharing.visiting import token_digest
from geopera_server.kernel.context import Context, Outside
from geopera_server.kernel.errors import InvalidInput, NotFound
from geopera_server.kernel.operation import operation
from geopera_server.kernel.paging import MAX_OFFSET, clamped
from geopera_server.values.ids import is_id, new_id

_EXAMPLE_ID = "0192d3c4-0000-7000-8000-000000000000"


class ShareLinkCreate(BaseModel):
    """What is shared, how far, until when, and the password that visitors need besides the link."""

    target_type: TargetType
    target_id: str
    permission: Literal["view", "download"] = "view"
    password: SecretStr = Field(min_length=rules.MIN_PASSWORD_LENGTH, description="8 characters to 72 bytes")
    expires_at: AwareDatetime


class ShareLinkCreateOutput(BaseModel):
    """The link, and its token, which is shown this one time."""

    id: str
    token: str
    target_type: str
    target_id: str
    permission: str
    organization_id: str
    project_id: str
    expires_at: datetime
    created_at: datetime
    created_by: str | None = None
    revoked_at: datetime | None = None
    access_count: int = 0
    last_accessed_at: datetime | None = None


async def _hash_password(outside: Outside, given: ShareLinkCreate) -> str:
    """Returns the hash to store, made off the event loop and before any transaction begins."""
    password = given.password.get_secret_value()
    if refusal := rules.password_refusal(password):
        raise InvalidInput(refusal, loc=("password",))
    if refusal := rules.expiry_refusal(given.expires_at, outside.now, longest=rules.LONGEST_LIFE):
        raise InvalidInput(refusal, loc=("expires_at",))
    return await passwords.hashed(password)


@operation(
    "share.link.create",
    effect="share_export",
    scope="shares:write",
    produces=("share_link",),
    idempotent=True,
    secret_id_field="id",  # noqa: S106  (the field that names the made link)
    prepare=_hash_password,
    example={
        "target_type": "item",
        "target_id": _EXAMPLE_ID,
        "permission": "view",
        "password": "for the whole crew",
        "expires_at": "2026-12-31T00:00:00Z",
    },
)
async def create(ctx: Context, given: ShareLinkCreate, password_hash: str) -> ShareLinkCreateOutput:
    """Shares one item or collection with whoever has the link's token and its password, until it ends.

    The token is shown this one time. Neither it nor the password is kept: only what they can be checked with.
    """
    target = await require_sharable(ctx.conn, ctx.principal, given.target_type, given.target_id)
    organization_id = target["organization_id"]
    used = await store.live_link_count(ctx.conn, organization_id, ctx.now)
    await require_room(ctx.conn, organization_id, "share_links", used)
    token = rules.new_token()
    row = {
        "id": new_id(),
        "organization_id": organization_id,
        "project_id": target["project_id"],
        "target_type": given.target_type,
        "target_id": target["id"],
        "permission": given.permission,
        "token_hash": token_digest(ctx.secrets, token),
        "token_prefix": token[: rules.TOKEN_PREFIX_LENGTH],
        "password_hash": password_hash,
        "created_by": ctx.principal.user_id,
        "created_at": ctx.now,
        "expires_at": given.expires_at,
    }
    await store.insert_link(ctx.conn, row)
    made = await store.link_state_of(ctx.conn, organization_id, row["id"])
    assert made is not None
    node = ("share_link", made["id"])
    ctx.lineage.edge(node, state=link_state(made), parents=[(made["target_type"], made["target_id"])])
    shown = as_share_link(made, ctx.now)
    ctx.emit("share_link.created", node, shown, project_id=made["project_id"], organization_id=organization_id)
    return ShareLinkCreateOutput(token=token, **{name: made[name] for name in _SHOWN_ONCE})


_SHOWN_ONCE = tuple(name for name in ShareLinkCreateOutput.model_fields if name != "token")


class ShareLinkRevokeInput(BaseModel):
    """Which link."""

    link_id: str


class ShareLinkRevokeOutput(BaseModel):
    """The link that is no more."""

    id: str
    ok: bool = True


@operation(
    "share.link.revoke",
    effect="destructive",
    scope="shares:write",
    produces=("share_link",),
    example={"link_id": _EXAMPLE_ID},
)
async def revoke(ctx: Context, given: ShareLinkRevokeInput) -> ShareLinkRevokeOutput:
    """Ends a share link for good, with all addresses that were given out through it, as of the next request.

    Revoking twice is no error.
    """
    seen = await _link(ctx, given.link_id)
    await require_change(ctx.conn, ctx.principal, seen["project_id"])
    row = await store.lock_link(ctx.conn, seen["organization_id"], seen["id"])
    if row is None:
        raise NotFound("share link")
    if row["revoked_at"] is None:
        await store.revoke_links(ctx.conn, [row["id"]], ctx.now)
        record_end(ctx, row)
    else:
        ctx.lineage.event(("share_link", row["id"]), before=link_state(row), after=link_state(row))
    return ShareLinkRevokeOutput(id=row["id"])


class ShareLinkListInput(BaseModel):
    """Which links: of one target or project, or in one state; all of the organization without any of these."""

    target_type: TargetType | None = None
    target_id: str | None = None
    project_id: str | None = None
    status: rules.Status | None = None
    limit: int = Field(50, ge=1)
    offset: int = Field(0, ge=0, le=MAX_OFFSET)


@operation(
    "share.link.list",
    effect="read",
    scope="shares:read",
    raw=True,
    snapshot=True,
    extension=True,
    example={"project_id": _EXAMPLE_ID, "status": "active"},
)
async def list_(ctx: Context, given: ShareLinkListInput) -> ShareLinkPage:
    """Lists the organization's share links, newest first, without their tokens."""
    limit = clamped(given.limit)
    project_id = given.project_id and await require_project_read(ctx.conn, ctx.principal, given.project_id)
    if given.target_id is not None and not is_id(given.target_id):
        return ShareLinkPage(share_links=[], total=0, limit=limit, offset=given.offset)
    wanted = {
        "organization": ctx.principal.organization_id,
        "everywhere": reads_everywhere(ctx.principal),
        "project": project_id,
        "target_type": given.target_type,
        "target": given.target_id,
        "status": given.status,
        "at": ctx.now,
    }
    rows = await store.links_page(ctx.conn, wanted, limit=limit, offset=given.offset)
    return ShareLinkPage(
        share_links=[as_share_link(row, ctx.now) for row in rows],
        total=await store.links_total(ctx.conn, wanted),
        limit=limit,
        offset=given.offset,
    )


class ShareLinkGetInput(BaseModel):
    """Which link."""

    link_id: str


@operation("share.link.get", effect="read", scope="shares:read", raw=True, extension=True, example={"link_id": _EXAMPLE_ID})
async def get(ctx: Context, given: ShareLinkGetInput) -> ShareLinkDetail:
    """Returns one share link with its last 50 accesses and what was used through it."""
    row = await _link(ctx, given.link_id)
    ctx.touch("share_link", row["id"])
    accesses = await store.accesses_of(ctx.conn, row["id"], rules.ACCESSES_KEPT)
    return ShareLinkDetail(
        share_link=as_share_link(row, ctx.now),
        accesses=[{"at": each["at"], "ip_prefix": each["ip_prefix"], "kind": each["kind"]} for each in accesses],
        tile_requests=row["tile_requests"],
        egress_bytes=row["egress_bytes"],
    )


async def _link(ctx: Context, link_id: str) -> Row:
    row = (
        await store.link_of(
            ctx.conn, link_id, organization_id=ctx.principal.organization_id, everywhere=reads_everywhere(ctx.principal)
        )
        if is_id(link_id)
        else None
    )
    if row is None:
        raise NotFound("share link")
    return row
