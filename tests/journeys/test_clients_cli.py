"""The published command line against a served house, each command a process of its own with its own home folder."""

from __future__ import annotations

import asyncio
import json
import stat

import pytest
import pytest_asyncio

from geopera_server.domains.identity.oauth import rfc8628_device, sessions, tokens
from support.browser import Browser
from support.clients import Clients
from support.market import opened_market
from support.serving import PASSWORD

SEARCH = ["catalog", "search", "--host-name", "test-archive", "--limit", "5"]
BBOX = ["--bbox", "11.0", "--bbox", "46.2", "--bbox", "11.6", "--bbox", "46.8"]


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


class Terminal:
    """One person's terminal: a home folder and the server's address."""

    def __init__(self, clients: Clients, base_url: str) -> None:
        self.clients = clients
        self.address = {"GEOPERA_API_URL": base_url}
        self.credentials_file = clients.home / ".config" / "geopera" / "credentials.json"

    async def run(self, *words: str, stdin: str = "", **variables: str):
        return await self.clients.run("geopera", *words, stdin=stdin, **self.address, **variables)

    async def json(self, *words: str, stdin: str = ""):
        finished = await self.run(*words, stdin=stdin)
        assert finished.code == 0, finished.err
        return finished.json()

    def auth(self) -> dict:
        return json.loads(self.credentials_file.read_text())["default"]["auth"]

    def put_auth(self, **changed) -> None:
        store = json.loads(self.credentials_file.read_text())
        store["default"]["auth"].update(changed)
        self.credentials_file.write_text(json.dumps(store))


@pytest.fixture
def terminal(clients_venv, tmp_path, market):
    return Terminal(Clients(clients_venv, tmp_path), market.base_url)


@pytest_asyncio.fixture(scope="module")
async def keyed(clients_venv, tmp_path_factory, market):
    """A terminal after `login --api-key`, the key typed in rather than given on the command line."""
    terminal = Terminal(Clients(clients_venv, tmp_path_factory.mktemp("home")), market.base_url)
    finished = await terminal.run("login", "--api-key", "-", stdin=market.place.home.api_key + "\n")
    assert finished.out.startswith("Logged in as "), finished.err
    return terminal


async def test_key_is_checked_and_kept(keyed, market):
    assert keyed.auth() == {"type": "api_key", "api_key": market.place.home.api_key}
    assert stat.S_IMODE(keyed.credentials_file.stat().st_mode) == 0o600
    who, found, out = await asyncio.gather(keyed.json("whoami", "--json"), keyed.json(*SEARCH, *BBOX), keyed.run("whoami"))
    assert who["geopera_org_id"] == market.place.home.organization_id
    assert who["geopera_principal_type"] == "api_key"
    assert "orders:write" in who["scope"].split()
    assert f"org_id:          {market.place.home.organization_id}" in out.out
    assert [feature["id"] for feature in found["features"]] == ["TEST_BOLZANO_1"]


async def test_unknown_key_is_refused(terminal):
    finished = await terminal.run("login", "--api-key", "gpra_unknown")
    assert "API key validation failed" in finished.err
    assert not terminal.credentials_file.exists()


async def test_ordering_from_the_command_line(keyed, market, tmp_path):
    body = market.cart(projectId=market.place.home.project_id)
    file = tmp_path / "order.json"
    file.write_text(json.dumps(body))
    estimate, order = await asyncio.gather(
        keyed.json("orders", "archive", "estimate", "--json", json.dumps(market.cart())),
        keyed.json("orders", "archive", "place", "--json", f"@{file}"),
    )
    assert order["totalCredits"] == estimate["total_credits"] > 0
    done = await market.until_ended(order["id"])
    got, listed = await asyncio.gather(
        keyed.json("orders", "get", "--order-id", order["id"]),
        keyed.json("items", "list", "--project-id", market.place.home.project_id),
    )
    assert (got["status"], got["itemIds"]) == ("fulfilled", done["itemIds"])
    assert done["itemIds"][0] in {item["id"] for item in listed["items"]}
    lineage = await keyed.json("provenance", "get", "--entity-type", "item", "--entity-id", done["itemIds"][0])
    assert ("order", order["id"]) in {(node["entity_type"], node["entity_id"]) for node in lineage["nodes"]}


async def test_refusals_are_shown(keyed):
    unknown, invalid, raw = await asyncio.gather(
        keyed.run("orders", "get", "--order-id", "0198f1c2-0000-7000-8000-000000000000"),
        keyed.run("orders", "archive", "place"),
        keyed.run("op", "orders.get", '{"order_id": "mine"}'),
    )
    assert (unknown.code, unknown.out) == (2, "")
    assert "[404] There is no such order." in unknown.err
    assert invalid.code == 2
    assert "[422]" in invalid.err
    assert "projectId" in invalid.err
    assert raw.out == ""
    assert "[404] There is no such" in raw.err


async def test_op_reaches_everything(keyed, market):
    listing, me, streamed = await asyncio.gather(
        keyed.run("op", "--list"),
        keyed.json("op", "organizations.get"),
        keyed.json("op", "catalog.search", "-", stdin='{"host_name": "test-archive"}'),
    )
    ours = (await market.http.get("/openapi.json")).json()["paths"]
    assert listing.out.split() == sorted(path.removeprefix("/v1/op/") for path in ours)
    assert me["id"] == market.place.home.organization_id
    assert len(streamed["features"]) == 1


async def test_credentials_from_the_environment(terminal, market):
    human = await market.signed_in(market.place.home.email)
    key, token, nothing = await asyncio.gather(
        terminal.run("op", "catalog.sources.list", GEOPERA_API_TOKEN=market.place.home.api_key),
        terminal.run("op", "users.me", GEOPERA_API_TOKEN=human.token),
        terminal.run("op", "users.me"),
    )
    assert {source["id"] for source in key.json()["sources"]} >= {"test-archive", "test-open"}
    assert token.json()["email"] == market.place.home.email
    assert "Not logged in" in nothing.err


async def shown_address(process) -> str:
    """Reads a waiting `geopera login` until it shows where to go."""
    while True:
        line = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        assert line, (await process.stderr.read()).decode()
        if "user_code=" in line:
            return line.strip()


async def begun_login(terminal) -> tuple[asyncio.subprocess.Process, str]:
    process = await terminal.clients.start("geopera", "login", "--no-browser", PYTHONUNBUFFERED="1", **terminal.address)
    return process, await shown_address(process)


@pytest.fixture
def brisk(monkeypatch):
    """Devices may ask every second, so that nobody waits for five."""
    monkeypatch.setattr(rfc8628_device, "INTERVAL_S", 1)


async def allowed_login(terminal, market) -> None:
    """Signs a terminal in while its human allows that in a browser."""
    process, address = await begun_login(terminal)
    browser = Browser(market.http)
    await browser.open(address)
    assert "Sign in" in await browser.send()
    assert "Allow" in await browser.sign_in(market.place.home.email, PASSWORD)
    assert "Your device is connected" in await browser.send(action="allow")
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert b"Logged in as" in out, err


async def test_device_login(terminal, market, brisk):
    await allowed_login(terminal, market)
    auth = terminal.auth()
    assert (auth["type"], auth["issuer"]) == ("oauth", market.base_url)
    who = await terminal.json("whoami", "--json")
    assert (who["sub"], who["geopera_org_id"]) == (market.place.home.user_id, market.place.home.organization_id)
    assert {"orders:write", "catalog:read"} <= set(who["scope"].split())
    # Half a minute before its end a token counts as ended, and the answer brings a new refresh token too.
    terminal.put_auth(expires_at=1.0)
    assert (await terminal.json("op", "users.me"))["email"] == market.place.home.email
    renewed = terminal.auth()
    assert renewed["access_token"] != auth["access_token"]
    assert renewed["refresh_token"] != auth["refresh_token"]
    assert (await terminal.run("logout")).out.startswith("Logged out")
    form = {"grant_type": "refresh_token", "refresh_token": renewed["refresh_token"], "client_id": "geopera-cli"}
    gone = await market.http.post("/realms/public/protocol/openid-connect/token", data=form)
    assert (gone.status_code, gone.json()["error"]) == (400, "invalid_grant")
    left = await market.http.post("/v1/op/users.me", headers={"Authorization": f"Bearer {renewed['access_token']}"})
    assert left.status_code == 401


async def test_expired_token_is_refreshed_after_a_401(terminal, market, brisk, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "ACCESS_TOKEN_S", -1)
        patched.setattr(sessions, "ACCESS_TOKEN_S", 300)
        await allowed_login(terminal, market)
    expired = terminal.auth()
    refused = await market.http.post("/v1/op/users.me", headers={"Authorization": f"Bearer {expired['access_token']}"})
    assert refused.status_code == 401
    assert (await terminal.json("op", "users.me"))["email"] == market.place.home.email
    assert terminal.auth()["refresh_token"] != expired["refresh_token"]


async def test_denied_device_login(terminal, market, brisk):
    process, address = await begun_login(terminal)
    browser = Browser(market.http)
    await browser.open(address)
    await browser.send()
    await browser.sign_in(market.place.home.email, PASSWORD)
    assert "Access denied" in await browser.send(action="deny")
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert b"Login was denied in the browser." in err
    assert not terminal.credentials_file.exists()
