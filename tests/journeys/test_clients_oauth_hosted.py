"""The hosted MCP server: an MCP client that knows nothing but its address signs its human in with ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import socket
from urllib.parse import parse_qs, urlsplit

import pytest
import pytest_asyncio

from support.browser import Browser
from support.clients import Clients
from support.market import opened_market
from support.serving import PASSWORD

REALM = "/realms/public"
PROTOCOL = f"{REALM}/protocol/openid-connect"
SPELLINGS = (
    f"/.well-known/oauth-authorization-server{REALM}",
    f"/.well-known/openid-configuration{REALM}",
    f"{REALM}/.well-known/openid-configuration",
)
CALLBACK = "http://127.0.0.1:33418/callback"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


async def registered(market, **metadata):
    """Registers a program and returns what it was told."""
    wanted = {"client_name": "Field agent", "redirect_uris": [CALLBACK], **metadata}
    response = await market.http.post(f"{REALM}/clients-registrations/openid-connect", json=wanted)
    assert response.status_code == 201, response.text
    return response.json()


async def brought_back(market, address: str) -> dict[str, str]:
    """Allows the request behind an address as the home organization's owner; returns what the redirect carries."""
    browser = Browser(market.http)
    assert "Sign in" in await browser.open(address)
    assert "Allow" in await browser.sign_in(market.place.home.email, PASSWORD)
    await browser.send(action="allow")
    assert browser.page.status_code == 303, browser.page.text
    target = urlsplit(browser.page.headers["location"])
    assert f"{target.scheme}://{target.netloc}{target.path}" == CALLBACK
    return {name: value for name, [value] in parse_qs(target.query).items()}


@pytest.mark.parametrize("path", SPELLINGS)
async def test_discovery_is_found_under_every_spelling(market, path):
    document = (await market.http.get(path)).json()
    assert document["issuer"] == market.base_url + REALM
    assert document["code_challenge_methods_supported"] == ["S256"]
    for name in ("authorization_endpoint", "token_endpoint", "registration_endpoint", "introspection_endpoint"):
        assert document[name].startswith(market.base_url + REALM), name


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
        "/.well-known/oauth-authorization-server/realms/other",
        "/realms/other/.well-known/openid-configuration",
    ],
)
async def test_discovery_elsewhere_is_a_plain_miss(market, path):
    """Clients go on with the next spelling only after a 404."""
    assert (await market.http.get(path)).status_code == 404


async def test_code_flow_with_pkce_and_resource(market):
    client = await registered(market, token_endpoint_auth_method="none")
    resource = "https://mcp.example/mcp"
    query = {
        "response_type": "code", "client_id": client["client_id"], "redirect_uri": CALLBACK, "state": "s-1",
        "code_challenge": CHALLENGE, "code_challenge_method": "S256", "resource": resource,
    }  # fmt: skip
    address = str(market.http.build_request("GET", f"{PROTOCOL}/auth", params=query).url)
    back = await brought_back(market, address)
    assert (back["state"], back["iss"]) == ("s-1", market.base_url + REALM)
    form = {
        "grant_type": "authorization_code", "code": back["code"], "redirect_uri": CALLBACK,
        "client_id": client["client_id"], "code_verifier": VERIFIER, "resource": resource,
    }  # fmt: skip
    wrong = await market.http.post(f"{PROTOCOL}/token", data={**form, "code_verifier": VERIFIER[::-1]})
    assert (wrong.status_code, wrong.json()["error"]) == (400, "invalid_grant")
    granted = (await market.http.post(f"{PROTOCOL}/token", data=form)).json()
    assert granted["token_type"] == "Bearer"
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    assert (await market.http.post("/v1/op/users.me", headers=bearer)).json()["email"] == market.place.home.email
    gateway = await registered(market)
    seen = await market.http.post(
        f"{PROTOCOL}/token/introspect",
        data={"token": granted["access_token"], "token_type_hint": "access_token"},
        auth=(gateway["client_id"], gateway["client_secret"]),
    )
    told = seen.json()
    assert (told["active"], told["aud"], told["client_id"]) == (True, resource, client["client_id"])
    assert "orders:write" in told["scope"].split()
    replayed = await market.http.post(f"{PROTOCOL}/token", data=form)
    assert (replayed.status_code, replayed.json()["error"]) == (400, "invalid_grant")
    assert (await market.http.post("/v1/op/users.me", headers=bearer)).status_code == 401


@contextlib.asynccontextmanager
async def hosted(clients, market):
    """Runs the published MCP server for many users, with ours as its authorization server; yields its address."""
    gateway = await registered(market, client_name="MCP gateway")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await clients.start(
        "geopera-mcp",
        GEOPERA_API_URL=market.base_url,
        MCP_TRANSPORT="http",
        PORT=str(port),
        OIDC_ISSUER=market.base_url + REALM,
        MCP_OAUTH_CLIENT_ID=gateway["client_id"],
        MCP_OAUTH_CLIENT_SECRET=gateway["client_secret"],
        MCP_PUBLIC_URL=f"http://127.0.0.1:{port}",
    )
    told = b""
    try:
        while b"Uvicorn running" not in told:
            line = await asyncio.wait_for(process.stderr.readline(), 60)
            assert line, told.decode()
            told += line
        reading = asyncio.create_task(process.stderr.read())
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        await process.wait()
    await reading


async def test_agent_signs_its_human_in(clients_venv, tmp_path, market):
    clients = Clients(clients_venv, tmp_path)
    async with hosted(clients, market) as url:
        stranger = await market.http.post(url, json={}, headers={"Authorization": "Bearer nonsense"})
        assert stranger.status_code == 401
        assert "resource_metadata=" in stranger.headers["www-authenticate"]
        given = json.dumps({"url": url, "redirect_uri": CALLBACK})
        async with clients.conversation("mcp_calls.py", given) as agent:
            address = (await agent.heard())["open"]
            assert address.startswith(f"{market.base_url}{PROTOCOL}/auth?")
            assert parse_qs(urlsplit(address).query)["resource"] == [url]
            back = await brought_back(market, address)
            await agent.tell(code=back["code"], state=back["state"])
            assert "catalog.search" in {tool["name"] for tool in await agent.ask()}
            me = await agent.ask(tool="users.me")
            assert me["content"]["email"] == market.place.home.email, me["text"]
            found = await agent.ask(tool="catalog.search", arguments={"host_name": "test-archive"})
            assert [feature["id"] for feature in found["content"]["features"]] == ["TEST_BOLZANO_1"], found["text"]
