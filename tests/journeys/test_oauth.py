"""Sign-in stories over the served house: a terminal with a device code, and an agent that finds everything by itself."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from support.realms import DEVICE_GRANT, PROTOCOL, pkce
from support.serving import PASSWORD

CALLBACK = "http://127.0.0.1:33418/callback"


@pytest.fixture
async def browser(server):
    """A browser of its own: it keeps cookies and follows nothing by itself."""
    async with httpx.AsyncClient(base_url=server.base_url) as http:
        yield http


async def submit(browser, page, **fields):
    """Sends a page's form where it says, hidden fields included."""
    [action] = re.findall(r'<form method="post" action="([^"]+)">', page.text)
    found = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)
    return await browser.post(unescape(action), data={**{unescape(k): unescape(v) for k, v in found}, **fields})


async def sign_in(browser, page, email):
    return await submit(browser, page, username=email, password=PASSWORD, action="sign-in")


async def test_a_terminal_connects_works_refreshes_and_leaves(server, browser):
    http, home = server.http, server.place.home
    verifier, challenge = pkce()
    form = {"client_id": "geopera-cli", "scope": "openid profile"}
    asked = {**form, "code_challenge": challenge, "code_challenge_method": "S256"}
    begun = (await http.post(f"{PROTOCOL}/auth/device", data=asked)).json()
    assert begun["verification_uri_complete"].startswith(server.base_url)

    page = await submit(browser, await browser.get(begun["verification_uri_complete"]), user_code=begun["user_code"])
    consent = await sign_in(browser, page, home.email)
    assert "connected" in (await submit(browser, consent, action="allow")).text

    poll = {"client_id": "geopera-cli", "device_code": begun["device_code"], "code_verifier": verifier}
    granted = (await http.post(f"{PROTOCOL}/token", data={**poll, "grant_type": DEVICE_GRANT})).json()
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    info = (await http.get(f"{PROTOCOL}/userinfo", headers=bearer)).json()
    assert (info["email"], info["geopera_org_id"]) == (home.email, home.organization_id)
    made = await http.post("/v1/op/projects.create", json={"name": "From a terminal"}, headers=bearer)
    assert made.status_code == 200, made.text

    refresh = {"grant_type": "refresh_token", "client_id": "geopera-cli", "refresh_token": granted["refresh_token"]}
    renewed = (await http.post(f"{PROTOCOL}/token", data=refresh)).json()
    leaving = {"client_id": "geopera-cli", "refresh_token": renewed["refresh_token"]}
    assert (await http.post(f"{PROTOCOL}/logout", data=leaving)).status_code == 204
    assert (
        await http.post("/v1/op/users.me", headers={"Authorization": f"Bearer {renewed['access_token']}"})
    ).status_code == 401


async def test_an_agent_discovers_registers_and_is_introspected(server, browser):
    http = server.http
    found = (await http.get("/.well-known/oauth-authorization-server/realms/public")).json()
    assert found["issuer"] == f"{server.base_url}/realms/public"
    about = {"client_name": "Agent", "redirect_uris": [CALLBACK], "token_endpoint_auth_method": "none"}
    registered = await http.post(found["registration_endpoint"], json=about)
    assert registered.status_code == 201

    verifier, challenge = pkce()
    client_id, resource = registered.json()["client_id"], "https://mcp.example/mcp"
    query = {
        "response_type": "code", "client_id": client_id, "redirect_uri": CALLBACK, "state": "xyz", "resource": resource,
        "code_challenge": challenge, "code_challenge_method": "S256", "scope": "catalog:read projects:read users:read",
    }  # fmt: skip
    page = await browser.get(found["authorization_endpoint"], params=query)
    consent = await sign_in(browser, page, server.place.home.email)
    answer = await submit(browser, consent, action="allow")
    told = parse_qs(urlsplit(answer.headers["location"]).query)
    assert (told["state"], told["iss"]) == (["xyz"], [found["issuer"]])

    form = {"code": told["code"][0], "client_id": client_id, "redirect_uri": CALLBACK, "code_verifier": verifier}
    exchange = {**form, "grant_type": "authorization_code", "resource": resource}
    granted = (await http.post(found["token_endpoint"], data=exchange)).json()
    bearer = {"Authorization": f"Bearer {granted['access_token']}"}
    assert (await http.post("/v1/op/projects.list", headers=bearer)).status_code == 200
    spent = await http.post("/v1/op/projects.create", json={"name": "Too much"}, headers=bearer)
    assert (spent.status_code, spent.json()["code"]) == (403, "missing_scope")

    resource_server = await http.post(found["registration_endpoint"], json={"redirect_uris": [CALLBACK]})
    auth = (resource_server.json()["client_id"], resource_server.json()["client_secret"])
    asked = {"token": granted["access_token"], "token_type_hint": "access_token"}
    active = (await http.post(found["introspection_endpoint"], data=asked, auth=auth)).json()
    assert (active["active"], active["aud"], active["client_id"]) == (True, resource, client_id)
    gone = {"token": granted["refresh_token"], "client_id": client_id}
    assert (await http.post(found["revocation_endpoint"], data=gone)).status_code == 200
    assert (await http.post(found["introspection_endpoint"], data=asked, auth=auth)).json() == {"active": False}
    assert (await http.post("/v1/op/projects.list", headers=bearer)).status_code == 401
