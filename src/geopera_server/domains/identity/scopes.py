"""The scopes there are, what each one opens, and which of them a role holds.

A scope is `resource:action`. Held scopes match as `kernel.principal.Principal.holds` says; what is stored with an API key or
a session is always concrete, so that a scope invented later never falls to a credential given out before.
"""

from __future__ import annotations

from typing import Literal

OrganizationRole = Literal["owner", "admin", "billing", "member", "viewer"]
ORGANIZATION_ROLES: tuple[OrganizationRole, ...] = ("owner", "admin", "billing", "member", "viewer")

DESCRIPTIONS = {
    "admin:read": "Read across organizations, as an operator of this deployment",
    "admin:write": "Change across organizations, as an operator of this deployment",
    "alerts:read": "Read alert rules and what they found",
    "alerts:write": "Make and change alert rules",
    "analytics:process": "Run analyses over imagery",
    "analytics:read": "Read indices, sensors and formulas",
    "api_keys:read": "List the organization's API keys",
    "api_keys:write": "Make and revoke API keys",
    "audit:read": "Read who called what",
    "band_formulas:read": "Read saved band formulas",
    "band_formulas:write": "Save and delete band formulas",
    "billing:read": "Read balance, ledger, invoices and plans",
    "billing:write": "Buy credits and manage payment",
    "budgets:read": "Read spending caps",
    "budgets:write": "Set spending caps",
    "catalog:read": "Search imagery",
    "clip:destroy": "Delete clips",
    "clip:read": "Read clips and their jobs",
    "clip:write": "Cut clips out of imagery",
    "collections:read": "Read collections",
    "collections:write": "Make and change collections",
    "eulas:read": "Read licence agreements",
    "eulas:write": "Accept licence agreements for the organization",
    "event_subscriptions:read": "Read webhook subscriptions and deliveries",
    "event_subscriptions:write": "Make and change webhook subscriptions",
    "items:read": "Read and download delivered items",
    "items:write": "Make and change items",
    "notifications:read": "Read notifications",
    "notifications:write": "Mark notifications as read",
    "orders:read": "Read orders, estimates and prices",
    "orders:write": "Place and change orders, which spends credits",
    "organizations:read": "Read the organization's profile and members",
    "organizations:write": "Make organizations and change their profile",
    "processing:process": "Run processing jobs, which spends credits",
    "processing:read": "Read processes and jobs",
    "projects:read": "Read projects and their members",
    "projects:write": "Make and change projects",
    "provenance:read": "Read where an artifact came from",
    "reports:read": "Read reports",
    "shares:read": "Read share links",
    "shares:write": "Make and revoke share links",
    "tiles:read": "Read map tiles and previews",
    "uploads:read": "Read uploads",
    "uploads:write": "Upload own data",
    "usage:read": "Read usage figures",
    "usage:write": "Recount usage figures",
    "users:read": "Read one's own profile and sessions",
    "users:write": "Change one's own profile and sessions",
}
ALL = frozenset(DESCRIPTIONS)
OPERATOR = frozenset({"admin:read", "admin:write"})
CUSTOMER = ALL - OPERATOR

_VIEWER = frozenset(scope for scope in CUSTOMER if scope.endswith(":read") and scope not in {"audit:read", "api_keys:read"}) | {
    "notifications:write"
}
_MEMBER = _VIEWER | {
    "items:write", "collections:write", "uploads:write", "processing:process", "analytics:process", "clip:write",
    "clip:destroy", "orders:write", "projects:write", "shares:write", "band_formulas:write", "alerts:write",
    "event_subscriptions:write", "eulas:write", "organizations:write",
}  # fmt: skip
_BILLING = _VIEWER | {"billing:write", "usage:write", "budgets:write", "audit:read", "api_keys:read"}
_ADMIN = _MEMBER | _BILLING | {"api_keys:write"}

# What an owner may do beyond an admin (transfer, closure) is asked of the role itself and has no scope.
OF_ROLE: dict[OrganizationRole, frozenset[str]] = {
    "owner": _ADMIN,
    "admin": _ADMIN,
    "billing": _BILLING,
    "member": _MEMBER,
    "viewer": _VIEWER,
}
OF_EVERY_HUMAN = frozenset({"users:read", "users:write"})
WITHOUT_ORGANIZATION = frozenset({"organizations:write"})
STANDARD_FOR_KEYS = _MEMBER - {"organizations:write"}


def of_human(role: str | None, *, operator: bool) -> frozenset[str]:
    """Returns the scopes of a human with this role in the organization of the call; None for no organization.

    Operators also read what customers read, and look after anybody's bills: each operation says whose rows that opens.
    """
    held = OF_EVERY_HUMAN | (WITHOUT_ORGANIZATION if role is None else _of(role))
    return held | OPERATOR | OF_ROLE["billing"] if operator else held


def _of(role: str) -> frozenset[str]:
    for name in ORGANIZATION_ROLES:
        if name == role:
            return OF_ROLE[name]
    raise ValueError(f"{role!r} is no organization role")


def named_by(wanted: str, *, operator: bool) -> frozenset[str]:
    """Returns the concrete scopes that a scope or wildcard names; none for an unknown one.

    `*` and `resource:*` name what exists today. `*` names operator scopes only for an operator, `*:action` never does.
    """
    if wanted in ALL:
        return frozenset({wanted})
    if wanted == "*":
        return ALL if operator else CUSTOMER
    resource, _, action = wanted.partition(":")
    if action == "*":
        return frozenset(scope for scope in ALL if scope.startswith(f"{resource}:"))
    if resource == "*":
        return frozenset(scope for scope in CUSTOMER if scope.endswith(f":{action}"))
    return frozenset()


def asked_for(scope: str) -> frozenset[str] | None:
    """Returns the known scopes that an OAuth `scope` parameter names, or None when it speaks of none.

    None means no narrowing: clients that ask for `openid profile` alone get what the principal holds. One that asks for
    scopes that do not exist gets none.
    """
    words = [word for word in scope.split() if ":" in word or word == "*"]
    if not words:
        return None
    nothing: frozenset[str] = frozenset()
    return nothing.union(*(named_by(word, operator=True) for word in words))
