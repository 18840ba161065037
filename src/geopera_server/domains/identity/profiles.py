"""Who somebody is, in the words of the token endpoints and of users.me."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.identity.store import keys, users
from geopera_server.kernel.principal import Principal


async def human_of(conn: Connection, principal: Principal) -> Row | None:
    """Returns the row of the human who calls; None for keys and services."""
    return None if principal.user_id is None else await users.user_of(conn, principal.user_id)


async def userinfo(conn: Connection, principal: Principal) -> dict[str, Any]:
    """Returns the claims about a principal (OpenID Connect Core, section 5.3); mail and name only where there are any."""
    claims: dict[str, Any] = {
        "sub": principal.id,
        "geopera_principal_type": principal.kind,
        "geopera_principal_id": principal.id,
        "geopera_org_id": principal.organization_id,
        "scope": " ".join(sorted(principal.scopes)),
    }
    human = await human_of(conn, principal)
    if human is not None:
        name = human["display_name"] or human["username"]
        return {**claims, "email": human["email"], "name": name, "preferred_username": human["username"]}
    if principal.api_key_id is not None and principal.organization_id is not None:
        key = await keys.key_of(conn, principal.organization_id, principal.api_key_id)
        return claims if key is None else {**claims, "name": key["name"]}
    return claims
