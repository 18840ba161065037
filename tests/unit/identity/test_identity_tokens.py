from __future__ import annotations

import base64
import hmac
import json
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from pydantic import SecretStr

from geopera_server.domains.identity.oauth.tickets import Tickets
from geopera_server.domains.identity.oauth.tokens import Issue, make_tokens
from geopera_server.kernel.principal import Principal
from geopera_server.settings import Settings
from geopera_server.values.clock import now

SECRET = "a secret that only these tests know"
ISSUER = "http://127.0.0.1/realms/public"


def tokens_with(algorithm="HS256", secret=SECRET):
    return make_tokens(Settings(secret=SecretStr(secret), token_algorithm=algorithm, data_dir=Path("unused")))


def signed(tokens, at):
    principal = Principal(kind="user", id="user-1", organization_id="org-1")
    return tokens.sign(
        Issue(session_id="session-1", client_id="geopera", principal=principal, issuer=ISSUER, audience=None), at
    )


def part(value) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_token_is_good_for_five_minutes(algorithm):
    tokens, at = tokens_with(algorithm), now()
    token = signed(tokens, at)
    for fresh in (tokens, tokens_with(algorithm)):
        assert fresh.session_of(token, at) == "session-1"
        assert fresh.session_of(token, at + timedelta(seconds=298)) == "session-1"
        assert fresh.session_of(token, at + timedelta(seconds=300)) is None
    claims = tokens_with(algorithm).read(token, at)
    assert claims["exp"] - claims["iat"] == 300
    assert (claims["sub"], claims["geopera_org_id"], claims["iss"]) == ("user-1", "org-1", ISSUER)


@pytest.mark.parametrize("algorithm", ["HS256", "ES256"])
def test_a_changed_token_is_no_token(algorithm):
    tokens, at = tokens_with(algorithm), now()
    header, payload, signature = signed(tokens, at).split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "==")) | {"sid": "somebody-else"}
    for forged in (
        f"{header}.{part(claims)}.{signature}",
        f"{part({'alg': 'none', 'typ': 'at+jwt'})}.{part(claims)}.",
        f"{part({'alg': 'NONE', 'typ': 'at+jwt'})}.{part(claims)}.{signature}",
        f"{header}.{payload}.",
        "..",
        "a.b.c",
        f"{part('not json')}.{payload}.{signature}",
    ):
        assert tokens.session_of(forged, at) is None, forged


def test_another_deployments_token_is_no_token():
    assert tokens_with().session_of(signed(tokens_with(secret=SECRET[::-1]), now()), now()) is None


def test_the_public_key_signs_nothing_as_a_shared_secret():
    tokens, at = tokens_with("ES256"), now()
    [published] = tokens.jwks()["keys"]
    signing_input = f"{part({'alg': 'HS256', 'typ': 'at+jwt'})}.{part({'sid': 's', 'exp': int(at.timestamp()) + 300})}"
    for secret in (ECKey.import_key(published).as_pem(private=False), json.dumps(published).encode()):
        mac = hmac.digest(secret, signing_input.encode(), "sha256")
        forged = f"{signing_input}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"
        assert tokens.session_of(forged, at) is None


def test_a_page_ticket_is_no_access_token():
    settings = Settings(secret=SecretStr(SECRET), data_dir=Path("unused"))
    at = now()
    ticket = Tickets(settings.key_for("tokens")).write("sign-in", {}, browser="b", at=at)
    assert tokens_with().session_of(ticket, at) is None


def test_published_keys():
    assert tokens_with("HS256").jwks() == {"keys": []}
    [key] = tokens_with("ES256").jwks()["keys"]
    assert (key["kty"], key["crv"], key["alg"], key["use"]) == ("EC", "P-256", "ES256", "sig")
    assert "d" not in key
    token = signed(tokens_with("ES256"), now())
    assert jwt.decode(token, ECKey.import_key(key)).header["kid"] == key["kid"]


def test_tickets_are_bound():
    tickets, at = Tickets(b"k" * 32), now()
    ticket = tickets.write("sign-in", {"flow": "code"}, browser="mine", at=at)
    assert tickets.read("sign-in", ticket, browser="mine", at=at) == {"flow": "code"}
    assert tickets.read("consent", ticket, browser="mine", at=at) is None
    assert tickets.read("sign-in", ticket, browser="another", at=at) is None
    assert tickets.read("sign-in", ticket, browser="mine", at=at + timedelta(minutes=16)) is None
    assert Tickets(b"x" * 32).read("sign-in", ticket, browser="mine", at=at) is None
    assert tickets.read("sign-in", "rubbish", browser="mine", at=at) is None
