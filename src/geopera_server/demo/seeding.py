"""Fills a deployment for the demo, once: an organization with a key and credits, an operator, and two sources of scenes."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson

from geopera_server.app import House
from geopera_server.demo.imagery import DemoImagery
from geopera_server.domains.identity.bootstrap import create_user
from geopera_server.domains.identity.store.users import user_named
from geopera_server.kernel.principal import PLATFORM_ORGANIZATION_ID
from geopera_server.values.clock import now

USER, OPERATOR = "demo@example.org", "operator@example.org"
OPEN_HOST, ARCHIVE_HOST, MIRRORED_HOST = "demo-open-data", "carpathia-archive", "earthsearch-aws"
OPENING_CREDITS = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Somebody who can sign in."""

    username: str
    password: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """What a reader needs to try the demo by hand; kept in demo.json."""

    base_url: str
    api_key: str
    organization_id: str
    project_id: str
    user: Account
    operator: Account

    def write(self, path: Path) -> None:
        """Writes demo.json, readable by its owner only and whole or not at all."""
        temporary = path.with_suffix(".tmp")
        temporary.touch(mode=0o600)
        temporary.write_bytes(orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2))
        os.replace(temporary, path)  # noqa: PTH105  (Path.replace is the same call)


async def seed_demo(house: House, base_url: str, imagery: DemoImagery, path: Path) -> Demo:
    """Returns the demo's accounts, making what is missing; a second call changes nothing.

    Only the first two humans are made directly, as nobody can sign in before them; all else goes through operations.
    """
    user, operator = (Account(username=name, password=_password(house, name)) for name in (USER, OPERATOR))
    async with house.pool.connection() as conn, conn.transaction():
        if await user_named(conn, USER) is None:
            await create_user(
                conn, email=OPERATOR, password=operator.password, display_name="Demo Operator", operator=True, at=now()
            )
            await create_user(conn, email=USER, password=user.password, display_name="Demo User", at=now())
    async with httpx.AsyncClient(base_url=base_url, timeout=60) as http:
        demo = await _organization(http, base_url, user, operator, path)
        demo.write(path)
        as_operator = await _signed_in(http, operator)
        await _grant(http, as_operator, demo)
        await _sources(http, as_operator, imagery)
    return demo


async def _organization(http: httpx.AsyncClient, base_url: str, user: Account, operator: Account, path: Path) -> Demo:
    as_user = await _signed_in(http, user)
    mine = (await _op(http, as_user, "users.me", {}))["organizations"]
    if not mine:
        mine = [await _op(http, as_user, "organizations.create", {"name": "Demo Forest Agency"})]
        as_user = await _signed_in(http, user)
    projects = (await _op(http, as_user, "projects.list", {}))["projects"]
    api_key = _kept_key(path) or (await _op(http, as_user, "api_keys.create", {"name": "demo"}))["key"]
    return Demo(
        base_url=base_url,
        api_key=api_key,
        organization_id=mine[0]["id"],
        project_id=next((each for each in projects if each["name"] == "Default"), projects[0])["id"],
        user=user,
        operator=operator,
    )


def _password(house: House, name: str) -> str:
    """The same on every run of one deployment, and of no other."""
    secret = base64.b32encode(house.kernel.secrets.digest("demo", name))[:20].decode().lower()
    return "-".join(secret[at : at + 5] for at in range(0, 20, 5))


def _kept_key(path: Path) -> str | None:
    return str(orjson.loads(path.read_bytes())["api_key"]) if path.exists() else None


async def _signed_in(http: httpx.AsyncClient, account: Account) -> dict[str, str]:
    form = {"grant_type": "password", "client_id": "geopera", **asdict(account)}
    reply = await http.post("/realms/public/protocol/openid-connect/token", data=form)
    reply.raise_for_status()
    return {"Authorization": f"Bearer {reply.json()['access_token']}"}


async def _op(http: httpx.AsyncClient, headers: Mapping[str, str], operation_id: str, body: Mapping[str, Any]) -> Any:
    reply = await http.post(f"/v1/op/{operation_id}", json=body, headers=dict(headers))
    if reply.is_error:
        raise RuntimeError(f"{operation_id}: {reply.status_code} {reply.text}")
    return reply.json()


async def _grant(http: httpx.AsyncClient, operator: Mapping[str, str], demo: Demo) -> None:
    grant = {"organization_id": demo.organization_id, "credits": OPENING_CREDITS, "reason": "credits to try the demo with"}
    await _op(http, {**operator, "Idempotency-Key": f"demo-grant-{demo.organization_id}"}, "billing.admin.grant_credits", grant)


async def _sources(http: httpx.AsyncClient, operator: Mapping[str, str], imagery: DemoImagery) -> None:
    for source in (_open_source(imagery), _archive_source(imagery)):
        await _op(http, operator, "catalog.admin.source_save", source)
    # The same real scenes stand in for the public host while it cannot be reached, marked as stale.
    for host, features in (
        (OPEN_HOST, imagery.open_items),
        (MIRRORED_HOST, imagery.open_items),
        (ARCHIVE_HOST, with_samples(imagery.archive_items)),
    ):
        await _op(http, operator, "catalog.admin.scenes_import", {"host": host, "features": features, "replace": True})
    rules = await _op(http, operator, "pricing.admin.list", {"organization_id": PLATFORM_ORGANIZATION_ID})
    if not any(rule["vendor"] == "carpathia" for rule in rules["rules"]):
        price = {
            "organization_id": PLATFORM_ORGANIZATION_ID,
            "vendor": "carpathia",
            "resolution": "any",
            "price_per_sqkm": 12.5,
            "min_area": 1,
        }
        await _op(http, operator, "pricing.admin.save", price)


def with_samples(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns an archive's items, oldest first, with the oldest marked as what its owner lets everybody look at."""
    oldest, *others = items
    sample = {**oldest, "properties": {**oldest["properties"], "geopera:sample": True}}
    return [sample, *(dict(item) for item in others)]


def _open_source(imagery: DemoImagery) -> dict[str, Any]:
    return {
        "id": OPEN_HOST,
        "title": "Demo open data",
        "description": "Real Sentinel-2 scenes of a forest in Romania, served by this deployment.",
        "access_model": "open",
        "scope": "regional",
        "countries": ["RO"],
        "attribution": "Contains modified Copernicus Sentinel data 2015-2021",
        "license": "CC-BY-SA-3.0-IGO",
        "vendor": OPEN_HOST,
        "collections": [_collection(imagery.open_items, "Sentinel-2 L2A", "open")],
        "connector": {"kind": "index"},
        "active": True,
    }


def _archive_source(imagery: DemoImagery) -> dict[str, Any]:
    return {
        "id": ARCHIVE_HOST,
        "title": "Carpathia Imaging (fictional)",
        "description": "A priced archive of an owner that does not exist, made of real Sentinel-2 pixels over the same forest.",
        "access_model": "commercial",
        "scope": "regional",
        "countries": ["RO"],
        "attribution": "Contains modified Copernicus Sentinel data 2015-2021",
        "license": "proprietary",
        "vendor": "carpathia",
        "collections": [_collection(imagery.archive_items, "Carpathia Ortho", "commercial")],
        "connector": {"kind": "index"},
        "active": True,
    }


def _collection(items: list[dict[str, Any]], title: str, access_model: str) -> dict[str, Any]:
    return {
        "id": items[0]["collection"],
        "title": title,
        "data_type": "optical",
        "render_strategy": "cog",
        "render_params": {},
        "access_model": access_model,
        "gsd": 10.0,
    }
