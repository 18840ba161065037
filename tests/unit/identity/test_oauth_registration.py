"""Dynamic registration, discovery and published keys."""

from __future__ import annotations

import pytest

from support.realms import BASE_URL, PROTOCOL

REGISTER = "/realms/public/clients-registrations/openid-connect"
ISSUER = f"{BASE_URL}/realms/public"


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/oauth-authorization-server/realms/public",
        "/.well-known/openid-configuration/realms/public",
        "/realms/public/.well-known/openid-configuration",
    ],
)
async def test_discovery(realms, path):
    document = (await realms.http.get(path)).json()
    assert document["issuer"] == ISSUER
    assert document["code_challenge_methods_supported"] == ["S256"]
    addresses = [value for name, value in document.items() if name.endswith(("_endpoint", "_uri"))]
    assert len(addresses) == 9
    answers = [await realms.http.request(method, address) for address in addresses for method in ("GET", "POST")]
    assert not [each.url for each in answers if each.status_code == 404 or each.status_code >= 500]
    assert len([each for each in answers if each.status_code == 405]) <= len(addresses)


@pytest.mark.parametrize("path", ["/.well-known/oauth-authorization-server", "/.well-known/oauth-protected-resource"])
async def test_other_spellings_are_not_there(realms, path):
    assert (await realms.http.get(path)).status_code == 404


async def test_no_keys_are_published_for_shared_secrets(realms):
    assert (await realms.http.get(f"{PROTOCOL}/certs")).json() == {"keys": []}


async def test_a_program_registers(realms):
    body = {
        "client_name": "Agent", "redirect_uris": ["https://agent.example/cb", "cursor://back/cb", "http://localhost:1/cb"],
        "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"], "scope": "openid catalog:read",
        "token_endpoint_auth_method": "none", "unknown_member": {"is": "ignored"},
    }  # fmt: skip
    response = await realms.http.post(REGISTER, json=body)
    assert response.status_code == 201
    reply = response.json()
    assert "client_secret" not in reply
    assert reply["redirect_uris"] == body["redirect_uris"]


async def test_the_default_is_a_confidential_client_that_may_introspect(realms):
    reply = (await realms.http.post(REGISTER, json={"redirect_uris": ["https://mcp.example/cb"]})).json()
    assert reply["token_endpoint_auth_method"] == "client_secret_basic"
    assert reply["grant_types"] == ["authorization_code", "refresh_token"]
    token = (await realms.signed_in())["access_token"]
    auth = (reply["client_id"], reply["client_secret"])
    form = {"token": token, "token_type_hint": "access_token"}
    told = (await realms.http.post(f"{PROTOCOL}/token/introspect", data=form, auth=auth)).json()
    assert (told["active"], told["sub"]) == (True, realms.owner_id)


@pytest.mark.parametrize(
    "uri",
    [
        "http://agent.example/cb", "javascript:alert(1)", "data:text/html,x", "https://", "https://a.example/cb#part", "/relative",
        "https://user@a.example/cb", "file:///etc/passwd", "https://a.example/ cb", "https://[bad", "",
    ],
)  # fmt: skip
async def test_addresses_that_codes_must_not_go_to(realms, uri):
    response = await realms.http.post(REGISTER, json={"redirect_uris": [uri]})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_redirect_uri")


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({}, "invalid_redirect_uri"),
        ({"redirect_uris": "https://a.example/cb"}, "invalid_client_metadata"),
        ({"redirect_uris": ["https://a.example/cb"], "grant_types": ["password"]}, "invalid_client_metadata"),
        ({"redirect_uris": ["https://a.example/cb"], "grant_types": ["client_credentials"]}, "invalid_client_metadata"),
        ({"redirect_uris": ["https://a.example/cb"], "response_types": ["token"]}, "invalid_client_metadata"),
        (
            {"redirect_uris": ["https://a.example/cb"], "token_endpoint_auth_method": "private_key_jwt"},
            "invalid_client_metadata",
        ),
        ({"redirect_uris": ["https://a.example/cb"], "client_name": "line\nbreak"}, "invalid_client_metadata"),
        ({"redirect_uris": ["https://a.example/cb"], "client_name": ["x"]}, "invalid_client_metadata"),
        ([], "invalid_client_metadata"),
    ],
)
async def test_refused_registrations(realms, body, error):
    response = await realms.http.post(REGISTER, json=body)
    assert (response.status_code, response.json()["error"]) == (400, error)


async def test_a_registration_that_is_no_json(realms):
    response = await realms.http.post(REGISTER, content=b"{", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]) == (400, "invalid_client_metadata")
