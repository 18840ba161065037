"""Speaks to an identity realm over HTTP, as programs and people do."""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import httpx

from geopera_server.domains.identity.bootstrap import create_api_key, create_organization, create_user
from geopera_server.domains.identity.oauth.realm import Realm
from geopera_server.domains.identity.oauth.tokens import Tokens
from geopera_server.domains.identity.store.organizations import add_member
from geopera_server.kernel.pipeline import Kernel
from geopera_server.values.clock import now

PASSWORD = "four words of nonsense"
BASE_URL = "http://127.0.0.1"
PROTOCOL = "/realms/public/protocol/openid-connect"
DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@dataclass
class Realms:
    """One deployment, its people, and how to speak to it."""

    kernel: Kernel
    realm: Realm
    tokens: Tokens
    http: httpx.AsyncClient
    owner_id: str
    organization_id: str
    project_id: str
    api_key: str
    api_key_id: str
    email: str = "owner@survey.example"

    async def token(self, grant_type: str, status: int = 200, **form: str) -> dict[str, Any]:
        """Asks the token endpoint and returns its reply, which must have the status and may not be cached."""
        response = await self.http.post(f"{PROTOCOL}/token", data={"grant_type": grant_type, **form})
        assert response.status_code == status, response.text
        assert response.headers["cache-control"] == "no-store"
        return response.json()

    async def signed_in(self, **form: str) -> dict[str, Any]:
        return await self.token(
            "password", **{"username": self.email, "password": PASSWORD, "client_id": "geopera-cli", **form}
        )

    async def refresh(self, refresh_token: str, status: int = 200, client_id: str = "geopera-cli") -> dict[str, Any]:
        return await self.token("refresh_token", status, refresh_token=refresh_token, client_id=client_id)

    async def op(self, operation_id: str, body: Any = None, *, token: str | None = None, **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {token or self.api_key}", **{k.replace("_", "-"): v for k, v in headers.items()}}
        return await self.http.post(f"/v1/op/{operation_id}", json=body or {}, headers=sent)

    async def works(self, token: str) -> bool:
        """Says whether a credential is still taken."""
        response = await self.op("users.me", token=token)
        assert response.status_code in {200, 401}, response.text
        return response.status_code == 200

    async def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        async with self.realm.pool.connection() as conn:
            cursor = await conn.execute(query, values)
            return await cursor.fetchall() if cursor.description else []

    async def human(
        self, email: str, *, organization_id: str | None = None, role: str = "member", operator: bool = False
    ) -> str:
        """Adds a human, in an organization if one is named, and returns the id."""
        async with self.realm.transaction() as conn:
            user = await create_user(conn, email=email, password=PASSWORD, operator=operator, at=now())
            if organization_id is not None:
                await add_member(conn, organization_id, user["id"], role, now())
        return user["id"]

    async def as_human(self, email: str) -> str:
        """Returns an access token of a human."""
        return (await self.signed_in(username=email))["access_token"]

    async def as_role(self, role: str) -> str:
        """Returns an access token of a new member of the organization with this role."""
        email = f"{role}-{secrets.token_hex(3)}@survey.example"
        await self.human(email, organization_id=self.organization_id, role=role)
        return await self.as_human(email)

    async def key_with(self, *permissions: str, organization_id: str | None = None) -> str:
        async with self.realm.transaction() as conn:
            made = await create_api_key(
                conn,
                organization_id=organization_id or self.organization_id,
                name="made for a test",
                digest=self.realm.key_digest,
                permissions=permissions,
                at=now(),
            )
        return made.secret

    async def other_organization(self, name: str = "Others") -> Any:
        async with self.realm.transaction() as conn:
            return await create_organization(conn, name=name, owner_id=None, at=now())


def pkce() -> tuple[str, str]:
    """Returns a verifier and its S256 challenge, made here by the RFC's own words."""
    verifier = secrets.token_urlsafe(32)
    digest = hashlib.sha256(verifier.encode()).digest()
    return verifier, base64.urlsafe_b64encode(digest).decode().rstrip("=")
