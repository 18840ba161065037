"""The token endpoint's grants for passwords, API keys and refresh tokens; introspection, revocation, logout, userinfo."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from argon2 import PasswordHasher

from geopera_server.kernel.policy import RateCaps
from support.realms import PASSWORD, PROTOCOL

KEY_CLIENT = {"client_id": "geopera"}


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def error_of(response) -> str:
    """Returns the OAuth error of a response, whose other members must be those of every error."""
    body = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert body["error_description"] == body["detail"]
    assert body["status"] == response.status_code
    return body["error"]


async def post(realms, path, headers=None, **form):
    return await realms.http.post(f"{PROTOCOL}/{path}", data=form, headers=headers)


async def test_an_api_key_buys_a_token_as_in_the_quickstart(realms):
    reply = await realms.token("client_credentials", client_secret=realms.api_key, **KEY_CLIENT)
    assert reply.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in", "scope"}
    assert (reply["token_type"], reply["expires_in"], reply["refresh_expires_in"]) == ("Bearer", 300, 1800)
    me = (await realms.op("users.me", token=reply["access_token"])).json()
    assert (me["principal_type"], me["principal_id"]) == ("api_key", realms.api_key_id)
    assert set(reply["scope"].split()) == set(me["scopes"])


async def test_an_api_key_may_come_as_basic(realms):
    response = await post(realms, "token", basic("geopera", realms.api_key), grant_type="client_credentials")
    assert response.status_code == 200


@pytest.mark.parametrize("secret", ["gpra_wrong", "", None])
async def test_a_wrong_api_key_is_no_client(realms, secret):
    form = {} if secret is None else {"client_secret": secret}
    response = await post(realms, "token", grant_type="client_credentials", **KEY_CLIENT, **form)
    assert (response.status_code, error_of(response)) == (401, "invalid_client")
    assert response.headers["www-authenticate"].startswith("Basic")


async def test_a_password_buys_the_users_scopes_whatever_the_cli_asks_for(realms):
    reply = await realms.signed_in(scope="openid profile")
    assert {"orders:write", "api_keys:write", "users:write"} <= set(reply["scope"].split())
    assert await realms.works(reply["access_token"])


async def test_the_user_name_is_taken_in_any_case_and_without_client(realms):
    reply = await realms.token("password", username=realms.email.upper(), password=PASSWORD)
    assert await realms.works(reply["access_token"])


async def test_a_scope_narrows_the_token(realms):
    reply = await realms.signed_in(scope="openid catalog:read users:read admin:write")
    assert reply["scope"] == "catalog:read users:read"
    assert (await realms.op("organizations.list", token=reply["access_token"])).json()["code"] == "missing_scope"
    refreshed = await realms.refresh(reply["refresh_token"])
    assert refreshed["scope"] == "catalog:read users:read"


@pytest.mark.parametrize("scope", ["catlog:read", "admin:read"])
async def test_a_scope_that_cannot_be_given_is_refused(realms, scope):
    assert (await realms.token("password", 400, username=realms.email, password=PASSWORD, scope=scope))[
        "error"
    ] == "invalid_scope"
    assert await realms.sql("SELECT 1 FROM auth_session") == []


@pytest.mark.parametrize("login", ["owner@survey.example", "nobody@survey.example"])
async def test_wrong_passwords_lock_known_and_unknown_names_alike(realms, login):
    for _ in range(5):
        assert (await realms.token("password", 400, username=login, password="wrong wrong wrong"))["error"] == "invalid_grant"
    response = await post(realms, "token", grant_type="password", username=login, password=PASSWORD)
    assert (response.status_code, error_of(response)) == (429, "too_many_attempts")
    assert 25 <= int(response.headers["retry-after"]) <= 30
    await realms.sql("UPDATE signin_failure SET locked_until = now() - interval '1 second'")
    status = 200 if login == realms.email else 400
    await realms.token("password", status, username=login, password=PASSWORD)


async def test_a_right_password_forgives_the_wrong_ones(realms):
    for _ in range(2):
        for _ in range(4):
            await realms.token("password", 400, username=realms.email, password="wrong wrong wrong")
        await realms.signed_in()
    assert await realms.sql("SELECT 1 FROM signin_failure") == []


async def test_guessing_many_at_once_does_not_slip_through(realms):
    form = {"grant_type": "password", "username": realms.email, "password": "wrong wrong wrong"}
    answers = await asyncio.gather(*(realms.http.post(f"{PROTOCOL}/token", data=form) for _ in range(12)))
    assert sorted(each.status_code for each in answers) == [400] * 5 + [429] * 7


async def test_an_unknown_name_costs_the_same_hash_as_a_known_one(realms, monkeypatch):
    hashed = []
    verify = PasswordHasher.verify
    monkeypatch.setattr(
        PasswordHasher, "verify", lambda self, stored, given: hashed.append(stored) or verify(self, stored, given)
    )
    for login in (realms.email, "nobody@survey.example"):
        assert (await realms.token("password", 400, username=login, password="wrong wrong wrong"))["error"] == "invalid_grant"
    parameters = [stored.rsplit("$", 2)[0] for stored in hashed]
    assert len(parameters) == 2
    assert parameters[0] == parameters[1]


async def test_a_disabled_user_is_out_at_once(realms):
    reply = await realms.signed_in()
    await realms.sql("UPDATE app_user SET status = 'disabled'")
    assert not await realms.works(reply["access_token"])
    await realms.refresh(reply["refresh_token"], 400)
    await realms.token("password", 400, username=realms.email, password=PASSWORD)


async def test_a_refresh_rotates(realms):
    first = await realms.signed_in()
    second = await realms.refresh(first["refresh_token"])
    assert second["refresh_token"] != first["refresh_token"]
    assert second["refresh_expires_in"] == 1800
    assert await realms.works(second["access_token"])
    third = await realms.refresh(second["refresh_token"])
    assert await realms.works(third["access_token"])


async def test_a_lost_answer_is_given_again_within_the_grace(realms):
    first = await realms.signed_in()
    answers = await asyncio.gather(*(realms.refresh(first["refresh_token"]) for _ in range(5)))
    assert len({each["refresh_token"] for each in answers}) == 1
    assert all([await realms.works(each["access_token"]) for each in answers])
    await realms.refresh(answers[0]["refresh_token"])


async def test_after_the_grace_a_repeat_ends_the_session(realms):
    first = await realms.signed_in()
    second = await realms.refresh(first["refresh_token"])
    await realms.sql("UPDATE refresh_token SET used_at = used_at - interval '61 seconds'")
    assert (await realms.refresh(first["refresh_token"], 400))["error"] == "invalid_grant"
    assert not await realms.works(second["access_token"])
    await realms.refresh(second["refresh_token"], 400)
    assert await realms.sql("SELECT ended_reason FROM auth_session") == [{"ended_reason": "refresh_token_reused"}]


async def test_an_older_one_than_the_direct_parent_ends_the_session_even_in_the_grace(realms):
    first = await realms.signed_in()
    second = await realms.refresh(first["refresh_token"])
    third = await realms.refresh(second["refresh_token"])
    await realms.refresh(first["refresh_token"], 400)
    assert not await realms.works(third["access_token"])
    await realms.refresh(third["refresh_token"], 400)


async def test_an_expired_refresh_token_ends_nothing(realms):
    reply = await realms.signed_in()
    await realms.sql("UPDATE refresh_token SET expires_at = now() - interval '1 second'")
    assert (await realms.refresh(reply["refresh_token"], 400))["error"] == "invalid_grant"
    assert await realms.works(reply["access_token"])


async def test_a_refresh_token_belongs_to_its_client(realms):
    reply = await realms.signed_in()
    await realms.refresh(reply["refresh_token"], 400, client_id="geopera")
    await realms.refresh(reply["refresh_token"])


async def test_only_digests_of_tokens_are_stored(realms):
    reply = await realms.signed_in()
    stored = str(await realms.sql("SELECT token_hash::text, parent_hash::text FROM refresh_token"))
    assert reply["refresh_token"] not in stored
    assert reply["refresh_token"].encode().hex() not in stored


async def test_tokens_of_a_revoked_key_end_with_it(realms):
    reply = await realms.token("client_credentials", client_secret=realms.api_key, **KEY_CLIENT)
    assert await realms.works(reply["access_token"])
    revoker = await realms.key_with("api_keys:write", "users:read")
    assert (await realms.op("api_keys.revoke", {"key_id": realms.api_key_id}, token=revoker)).status_code == 200
    assert not await realms.works(reply["access_token"])
    assert not await realms.works(realms.api_key)
    await realms.refresh(reply["refresh_token"], 400, client_id="geopera")


async def test_an_expired_key_is_out(realms):
    await realms.sql("UPDATE api_key SET expires_at = now()")
    assert not await realms.works(realms.api_key)
    await realms.token("client_credentials", 401, client_secret=realms.api_key, **KEY_CLIENT)


async def test_expired_and_forged_access_tokens_are_out(realms):
    reply = await realms.signed_in()
    _, payload, signature = reply["access_token"].split(".")
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "typ": "at+jwt"}).encode()).decode().rstrip("=")
    assert not await realms.works(f"{header}.{payload}.")
    assert not await realms.works(f"{header}.{payload}.{signature}")
    assert not await realms.works("gpra_unknown")


@pytest.mark.parametrize("way", ["bearer", "apikey", "x-api-key"])
async def test_every_way_to_send_a_key(realms, way):
    headers = {
        "bearer": {"Authorization": f"Bearer {realms.api_key}"},
        "apikey": {"Authorization": f"ApiKey {realms.api_key}"},
        "x-api-key": {"X-API-Key": realms.api_key, "Authorization": "Bearer nonsense"},
    }[way]
    assert (await realms.http.post("/v1/op/users.me", headers=headers)).status_code == 200
    info = await realms.http.get(f"{PROTOCOL}/userinfo", headers=headers)
    assert info.json()["geopera_principal_id"] == realms.api_key_id


async def test_keys_without_our_mark_work(realms):
    await realms.sql("UPDATE api_key SET secret_hash = %s", realms.realm.key_digest("a key from before"))
    assert await realms.works("a key from before")


async def test_userinfo_of_a_human(realms):
    token = (await realms.signed_in())["access_token"]
    claims = (await realms.http.get(f"{PROTOCOL}/userinfo", headers={"Authorization": f"Bearer {token}"})).json()
    assert claims["sub"] == claims["geopera_principal_id"] == realms.owner_id
    assert (claims["email"], claims["name"]) == (realms.email, "Ona Owner")
    assert (claims["geopera_principal_type"], claims["geopera_org_id"]) == ("user", realms.organization_id)
    assert "orders:write" in claims["scope"].split()


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"X-API-Key": "gpra_wrong"}])
async def test_userinfo_without_good_credential(realms, headers):
    response = await realms.http.get(f"{PROTOCOL}/userinfo", headers=headers)
    assert (response.status_code, error_of(response)) == (401, "invalid_token")
    assert response.headers["www-authenticate"].startswith("Bearer")


async def test_introspection(realms):
    token = await realms.signed_in()
    caller = basic("geopera", realms.api_key)
    access = (await post(realms, "token/introspect", caller, token=token["access_token"])).json()
    assert access["active"] is True
    assert (access["sub"], access["client_id"], access["token_type"]) == (realms.owner_id, "geopera-cli", "Bearer")
    assert access["geopera_org_id"] == realms.organization_id
    assert access["exp"] - access["iat"] == 300
    assert "orders:write" in access["scope"].split()
    refresh = (await post(realms, "token/introspect", caller, token=token["refresh_token"])).json()
    assert (refresh["active"], refresh["token_type"]) == (True, "refresh_token")
    key = (await post(realms, "token/introspect", caller, token=realms.api_key)).json()
    assert (key["active"], key["sub"]) == (True, realms.api_key_id)


async def test_introspection_of_what_is_unknown_or_over(realms):
    caller = {"Authorization": f"Bearer {realms.api_key}"}
    token = await realms.signed_in()
    await realms.refresh(token["refresh_token"])
    for over in ("unknown", "a.b.c", token["refresh_token"]):
        response = await post(realms, "token/introspect", caller, token=over, token_type_hint="access_token")
        assert (response.status_code, response.json()) == (200, {"active": False})
    await post(realms, "logout", client_id="geopera-cli", refresh_token=token["refresh_token"])
    response = await post(realms, "token/introspect", caller, token=token["access_token"])
    assert response.json() == {"active": False}


@pytest.mark.parametrize("headers", [{}, basic("geopera", "gpra_wrong"), {"Authorization": "Bearer gpra_wrong"}])
async def test_introspection_asks_who_asks(realms, headers):
    response = await post(realms, "token/introspect", headers, token="anything")
    assert (response.status_code, error_of(response)) == (401, "invalid_client")


@pytest.mark.parametrize("kind", ["access_token", "refresh_token"])
async def test_revoking_either_token_ends_the_session(realms, kind):
    reply = await realms.signed_in()
    response = await post(realms, "revoke", client_id="geopera-cli", token=reply[kind])
    assert response.status_code == 200
    assert not await realms.works(reply["access_token"])
    await realms.refresh(reply["refresh_token"], 400)
    assert (await post(realms, "revoke", client_id="geopera-cli", token=reply[kind])).status_code == 200


async def test_revoking_the_unknown_is_no_error(realms):
    assert (await post(realms, "revoke", client_id="geopera-cli", token="never seen")).status_code == 200


async def test_revoking_another_clients_token_is_refused(realms):
    reply = await realms.signed_in()
    response = await post(realms, "revoke", client_id="geopera", token=reply["refresh_token"])
    assert error_of(response) == "unauthorized_client"
    assert await realms.works(reply["access_token"])


async def test_logout(realms):
    reply = await realms.signed_in()
    response = await post(realms, "logout", client_id="geopera-cli", refresh_token=reply["refresh_token"])
    assert response.status_code == 204
    assert not await realms.works(reply["access_token"])


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "magic"}, "unsupported_grant_type"),
        ({"grant_type": "password", "username": "x"}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "refresh_token", "refresh_token": "unknown"}, "invalid_grant"),
        ({"grant_type": "client_credentials", "client_id": "geopera-cli", "client_secret": "x"}, "unauthorized_client"),
        ({"grant_type": "authorization_code", "code": "x", "client_id": "geopera"}, "unauthorized_client"),
        ({"grant_type": "password", "username": "a\x00b", "password": "x"}, "invalid_request"),
    ],
)
async def test_malformed_requests(realms, form, error):
    response = await post(realms, "token", **form)
    assert (response.status_code, error_of(response)) == (400, error)


async def test_an_unknown_client(realms):
    response = await post(realms, "token", grant_type="refresh_token", refresh_token="x", client_id="nobody")
    assert (response.status_code, error_of(response)) == (401, "invalid_client")


async def test_parameters_come_once_and_as_a_form(realms):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    twice = await realms.http.post(f"{PROTOCOL}/token", content="grant_type=password&grant_type=password", headers=form)
    assert error_of(twice) == "invalid_request"
    as_json = await realms.http.post(f"{PROTOCOL}/token", json={"grant_type": "password"})
    assert error_of(as_json) == "invalid_request"
    both = await post(realms, "token", basic("geopera", "x"), grant_type="client_credentials", client_secret="x")
    assert error_of(both) == "invalid_request"


async def test_sign_ins_are_audited_without_their_secrets(realms):
    await realms.signed_in()
    await realms.token("password", 400, username=realms.email, password="wrong wrong wrong")
    await realms.kernel.reads_audit.flush()
    rows = await realms.sql("SELECT * FROM audit_event ORDER BY at")
    assert [(row["operation_id"], row["status"], row["outcome"], row["principal_id"]) for row in rows] == [
        ("oauth.token", 200, "ok", realms.owner_id),
        ("oauth.token", 400, "failed", None),
    ]
    assert PASSWORD not in str(rows)


class TestLimited:
    @pytest.fixture
    def caps(self) -> RateCaps:
        return RateCaps(default=10_000, public=3)

    async def test_the_token_endpoint_is_limited_by_address(self, realms):
        for _ in range(3):
            await realms.token("refresh_token", 400, refresh_token="x")
        response = await post(realms, "token", grant_type="refresh_token", refresh_token="x")
        assert (response.status_code, error_of(response)) == (429, "rate_limited")
        assert 1 <= int(response.headers["retry-after"]) <= 60
