"""The authorization code flow with PKCE, through the pages as a browser sends them."""

from __future__ import annotations

import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest

from geopera_server.domains.identity.oauth.rfc6749_code import redirect_matches
from support.realms import BASE_URL, PASSWORD, PROTOCOL, pkce

REDIRECT = "http://127.0.0.1:7777/callback"
REGISTER = "/realms/public/clients-registrations/openid-connect"
ISSUER = f"{BASE_URL}/realms/public"


@pytest.fixture
async def client(realms):
    body = {"client_name": "Map <b>desk</b>", "redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"}
    return (await realms.http.post(REGISTER, json=body)).json()


def hidden(page) -> dict[str, str]:
    """Returns the hidden fields of a page's form, and checks what every page must have."""
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<script" not in page.text
    assert page.headers["cache-control"] == "no-store"
    [nonce] = re.findall(r"style-src 'nonce-([^']+)'", policy)
    assert f'<style nonce="{nonce}">' in page.text
    return {unescape(k): unescape(v) for k, v in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page.text)}


class Browser:
    """Walks the pages for one authorization request."""

    def __init__(self, realms, client, **changes):
        self.realms, self.client = realms, client
        self.verifier, challenge = pkce()
        self.query = {
            "response_type": "code", "client_id": client["client_id"], "redirect_uri": REDIRECT, "state": "s-1",
            "code_challenge": challenge, "code_challenge_method": "S256", "scope": "openid", **changes,
        }  # fmt: skip
        self.query = {k: v for k, v in self.query.items() if v is not None}

    async def open(self):
        return await self.realms.http.get(f"{PROTOCOL}/auth", params=self.query)

    async def send(self, page, **fields):
        return await self.realms.http.post(f"{PROTOCOL}/auth", data={**hidden(page), **fields})

    async def sign_in(self, page, password=PASSWORD):
        return await self.send(page, username=self.realms.email, password=password, action="sign-in")

    async def allow(self) -> str:
        """Returns the code after signing in and allowing."""
        consent = await self.sign_in(await self.open())
        assert consent.status_code == 200, consent.text
        return sent_back(await self.send(consent, action="allow"))["code"]

    async def exchange(self, code, status=200, **changes):
        form = {
            "code": code, "client_id": self.client["client_id"], "redirect_uri": self.query["redirect_uri"],
            "code_verifier": self.verifier, **changes,
        }  # fmt: skip
        return await self.realms.token("authorization_code", status, **{k: v for k, v in form.items() if v is not None})


def sent_back(response, status=303, redirect=REDIRECT) -> dict[str, str]:
    """Returns what a redirect tells the client; state and issuer must always be there."""
    assert response.status_code == status, response.text
    address = response.headers["location"]
    assert address.startswith(redirect + "?")
    told = {k: v for k, [v] in parse_qs(urlsplit(address).query).items()}
    assert (told.pop("state"), told.pop("iss")) == ("s-1", ISSUER)
    return told


async def test_the_whole_flow(realms, client):
    browser = Browser(realms, client, scope="openid catalog:read users:read", resource="https://mcp.example/mcp")
    sign_in = await browser.open()
    assert "Map &lt;b&gt;desk&lt;/b&gt;" in sign_in.text
    consent = await browser.sign_in(sign_in)
    assert "127.0.0.1:7777" in consent.text
    assert "Search imagery" in consent.text
    assert f"form-action 'self' {REDIRECT.removesuffix('/callback')};" in consent.headers["content-security-policy"]
    code = sent_back(await browser.send(consent, action="allow"))["code"]
    reply = await browser.exchange(code, resource="https://mcp.example/mcp")
    assert reply["scope"] == "catalog:read users:read"
    claims = (await realms.op("users.me", token=reply["access_token"])).json()
    assert claims["organization_id"] == realms.organization_id
    headers = {"Authorization": f"Bearer {realms.api_key}"}
    form = {"token": reply["access_token"]}
    told = (await realms.http.post(f"{PROTOCOL}/token/introspect", data=form, headers=headers)).json()
    assert (told["aud"], told["client_id"]) == ("https://mcp.example/mcp", client["client_id"])
    await realms.refresh(reply["refresh_token"], client_id=client["client_id"])


async def test_a_code_used_twice_ends_what_it_gave(realms, client):
    browser = Browser(realms, client)
    code = await browser.allow()
    reply = await browser.exchange(code)
    assert await realms.works(reply["access_token"])
    assert (await browser.exchange(code, 400))["error"] == "invalid_grant"
    assert not await realms.works(reply["access_token"])
    await realms.refresh(reply["refresh_token"], 400, client_id=client["client_id"])


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"code_verifier": "w" * 43}, "invalid_grant"),
        ({"code_verifier": None}, "invalid_grant"),
        ({"code_verifier": "short"}, "invalid_grant"),
        ({"redirect_uri": "http://127.0.0.1:7777/other"}, "invalid_grant"),
        ({"redirect_uri": None}, "invalid_request"),
        ({"code": "unknown"}, "invalid_grant"),
        ({"resource": "https://elsewhere.example/"}, "invalid_target"),
    ],
)
async def test_what_an_exchange_must_match(realms, client, changes, error):
    browser = Browser(realms, client, resource="https://mcp.example/mcp")
    code = await browser.allow()
    assert (await browser.exchange(changes.pop("code", code), 400, **changes))["error"] == error
    await browser.exchange(code)


async def test_a_code_belongs_to_its_client(realms, client):
    other = (await realms.http.post(REGISTER, json={"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "none"})).json()
    browser = Browser(realms, client)
    code = await browser.allow()
    assert (await browser.exchange(code, 400, client_id=other["client_id"]))["error"] == "invalid_grant"


async def test_an_expired_code(realms, client):
    browser = Browser(realms, client)
    code = await browser.allow()
    await realms.sql("UPDATE authorization_code SET expires_at = now()")
    assert (await browser.exchange(code, 400))["error"] == "invalid_grant"


async def test_a_confidential_client_proves_itself(realms):
    body = {"redirect_uris": [REDIRECT], "token_endpoint_auth_method": "client_secret_post"}
    client = (await realms.http.post(REGISTER, json=body)).json()
    browser = Browser(realms, client)
    code = await browser.allow()
    assert (await browser.exchange(code, 401))["error"] == "invalid_client"
    assert (await browser.exchange(code, 401, client_secret="wrong"))["error"] == "invalid_client"
    await browser.exchange(code, client_secret=client["client_secret"])
    assert client["client_secret"] not in str(await realms.sql("SELECT secret_hash::text FROM oauth_client"))


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"client_id": None},
        {"redirect_uri": None},
        {"redirect_uri": "http://127.0.0.1:7777/callback/../evil"},
        {"redirect_uri": "https://evil.example/callback"},
        {"redirect_uri": "http://127.0.0.1@evil.example/callback"},
    ],
)
async def test_nobody_is_redirected_while_the_client_is_in_doubt(realms, client, changes):
    page = await Browser(realms, client, **changes).open()
    assert page.status_code == 400
    assert "location" not in page.headers
    assert hidden(page) == {}


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "unsupported_response_type"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"resource": "not-absolute"}, "invalid_target"),
        ({"resource": "https://mcp.example/#part"}, "invalid_target"),
    ],
)
async def test_the_client_is_told_what_it_did_wrong(realms, client, changes, error):
    assert sent_back(await Browser(realms, client, **changes).open(), status=302)["error"] == error


async def test_a_loopback_client_chooses_its_port(realms, client):
    browser = Browser(realms, client, redirect_uri="http://127.0.0.1:50123/callback")
    consent = await browser.sign_in(await browser.open())
    answer = await browser.send(consent, action="allow")
    code = sent_back(answer, redirect="http://127.0.0.1:50123/callback")["code"]
    await browser.exchange(code)


@pytest.mark.parametrize(
    ("registered", "given", "matches"),
    [
        ("http://127.0.0.1/cb", "http://127.0.0.1:1/cb", True),
        ("http://[::1]/cb", "http://[::1]:9/cb", True),
        ("http://127.0.0.1/cb", "http://127.0.0.2:1/cb", False),
        ("http://127.0.0.1/cb", "http://x@127.0.0.1:1/cb", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:1/cb#x", False),
        ("http://127.0.0.1/cb", "http://127.0.0.1:99999/cb", False),
        ("https://a.example/cb", "https://a.example:8443/cb", False),
        ("app:/cb", "app:/cb", True),
    ],
)
def test_redirect_addresses(registered, given, matches):
    assert redirect_matches(registered, given) is matches


async def test_denying(realms, client):
    browser = Browser(realms, client)
    consent = await browser.sign_in(await browser.open())
    assert sent_back(await browser.send(consent, action="deny"))["error"] == "access_denied"
    assert sent_back(await browser.send(await browser.open(), action="cancel"))["error"] == "access_denied"
    assert await realms.sql("SELECT 1 FROM authorization_code") == []


async def test_a_wrong_password_shows_the_form_again(realms, client):
    browser = Browser(realms, client)
    page = await browser.sign_in(await browser.open(), password="wrong wrong wrong")
    assert page.status_code == 400
    assert 'role="alert"' in page.text
    assert realms.email in page.text
    assert (await browser.sign_in(page)).status_code == 200


async def test_forms_count_only_with_the_cookie_they_were_made_for(realms, client):
    browser = Browser(realms, client)
    sign_in = await browser.open()
    assert "httponly" in sign_in.headers["set-cookie"].lower()
    consent = await browser.sign_in(sign_in)
    cookie = realms.http.cookies["geopera_sign_in"]
    realms.http.cookies.clear()
    stolen = await browser.send(consent, action="allow")
    realms.http.cookies.set("geopera_sign_in", "another-browser")
    elsewhere = await browser.send(consent, action="allow")
    assert [stolen.status_code, elsewhere.status_code] == [400, 400]
    assert await realms.sql("SELECT 1 FROM authorization_code") == []
    realms.http.cookies.clear()
    realms.http.cookies.set("geopera_sign_in", cookie)
    sent_back(await browser.send(consent, action="allow"))


async def test_a_sign_in_ticket_is_no_consent(realms, client):
    browser = Browser(realms, client)
    sign_in = await browser.open()
    form = {**hidden(sign_in), "step": "consent", "action": "allow", "user_id": realms.owner_id}
    assert (await realms.http.post(f"{PROTOCOL}/auth", data=form)).status_code == 400


async def test_the_human_chooses_the_organization(realms, client):
    second = await realms.other_organization("Second")
    stranger = await realms.other_organization("Strangers")
    await realms.sql("INSERT INTO membership VALUES (%s, %s, 'viewer', now())", second.organization["id"], realms.owner_id)
    browser = Browser(realms, client)
    consent = await browser.sign_in(await browser.open())
    assert "Second" in consent.text
    assert "Strangers" not in consent.text
    refused = await browser.send(consent, action="allow", organization_id=stranger.organization["id"])
    assert refused.status_code == 400
    code = sent_back(await browser.send(consent, action="allow", organization_id=second.organization["id"]))["code"]
    me = (await realms.op("users.me", token=(await browser.exchange(code))["access_token"])).json()
    assert (me["organization_id"], me["organization_role"]) == (second.organization["id"], "viewer")


async def test_asking_for_everything_is_said_in_one_line(realms, client):
    document = (await realms.http.get("/.well-known/oauth-authorization-server/realms/public")).json()
    browser = Browser(realms, client, scope=" ".join(document["scopes_supported"]))
    consent = await browser.sign_in(await browser.open())
    assert "everything that your role allows" in consent.text
    code = sent_back(await browser.send(consent, action="allow"))["code"]
    assert "admin:read" not in (await browser.exchange(code))["scope"].split()
