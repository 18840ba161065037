"""Who calls: a human, an organization's key, a service of the platform, or nobody in particular."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from psycopg import AsyncConnection

PLATFORM_ORGANIZATION_ID = "00000000-0000-7000-8000-000000000001"
RateClass = Literal["default", "placement", "spend", "public", "tiles"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The acting party of one call, with the one organization it acts in and the scopes it holds there."""

    kind: Literal["user", "api_key", "service", "guest"]
    id: str | None = None
    organization_id: str | None = None
    organization_role: str | None = None
    scopes: frozenset[str] = field(default_factory=frozenset)
    standing: str = "active"
    session_id: str | None = None
    only: frozenset[str] | None = None  # the operations that the credential is for; None for all that the scopes allow
    target: tuple[str, str] | None = None  # the ("item", id) or ("collection", id) that it is for; None for all it may see

    @property
    def api_key_id(self) -> str | None:
        return self.id if self.kind == "api_key" else None

    @property
    def user_id(self) -> str | None:
        return self.id if self.kind == "user" else None

    @property
    def is_operator(self) -> bool:
        return "admin:write" in self.scopes or self.kind == "service"

    def reaches(self, item_id: str, collection_id: str | None) -> bool:
        """Says whether the credential is for an item that is filed under this collection, or under none."""
        return self.target is None or self.target in {("item", item_id), ("collection", collection_id)}

    def holds(self, scope: str) -> bool:
        """Says whether a held scope matches: exact, `*`, `resource:*` or `*:action`.

        Admin scopes match only exactly, through `admin:*` or through `*`, so that `*:read` never opens operator reads.
        """
        resource, _, action = scope.partition(":")
        if scope in self.scopes or "*" in self.scopes or f"{resource}:*" in self.scopes:
            return True
        return resource != "admin" and f"*:{action}" in self.scopes


GUEST = Principal(kind="guest")


def service(name_id: str | None = None, *, organization_id: str = PLATFORM_ORGANIZATION_ID) -> Principal:
    """Returns the platform's own principal, for workers and crons acting within one organization."""
    return Principal(kind="service", id=name_id, organization_id=organization_id, scopes=frozenset({"*"}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """What came with a request, before anyone has looked whether it is good."""

    token: str
    requested_organization_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A good credential's principal, and how many calls its windows have counted with this one."""

    principal: Principal
    used_by_organization: int
    used_by_key: int | None = None
    key_cap: int | None = None
    plan_cap: int | None = None


class Authenticator(Protocol):
    """Turns a credential into a principal and counts the call, in one round trip; None when the credential is not good."""

    async def __call__(
        self, conn: AsyncConnection[dict[str, Any]], credential: Credential, rate_class: RateClass
    ) -> Admission | None: ...
