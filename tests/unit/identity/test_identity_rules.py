from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geopera_server.domains.identity import rules, scopes


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Harbour Survey Pty. Ltd.", "harbour-survey-pty-ltd"),
        ("Ünïcode Größe", "unicode-groe"),
        ("  --  ", "organization"),
        ("測量", "organization"),
        ("x" * 80, "x" * 60),
    ],
)
def test_slug(name, slug):
    assert rules.slug_of(name) == slug


@given(st.text())
def test_slug_has_one_form(name):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rules.slug_of(name))
    assert len(rules.slug_of(name)) <= 60


def test_taken_slugs_are_numbered():
    assert rules.free_slug("acme", set()) == "acme"
    assert rules.free_slug("acme", {"acme", "acme-2", "acme-4"}) == "acme-3"


@pytest.mark.parametrize("abn", ["51 824 753 556", "51824753556", "53004085616"])
def test_published_abns_pass(abn):
    assert rules.is_abn(abn)


@given(st.integers(0, 10), st.integers(1, 9))
def test_one_wrong_digit_breaks_an_abn(position, added):
    digits = [int(digit) for digit in "51824753556"]
    digits[position] = (digits[position] + added) % 10
    assert not rules.is_abn("".join(map(str, digits)))


@pytest.mark.parametrize("text", ["", "5182475355", "518247535566", "abcdefghijk", "٥١٨٢٤٧٥٣٥٥٦"])
def test_what_is_no_abn(text):
    assert not rules.is_abn(text)


@pytest.mark.parametrize("text", ["https://survey.example/about", "http://localhost:8080"])
def test_websites(text):
    assert rules.is_website(text)


@pytest.mark.parametrize(
    "text", ["javascript:alert(1)", "survey.example", "https://", "https://u:p@survey.example", "http://[::1"]
)
def test_what_is_no_website(text):
    assert not rules.is_website(text)


@pytest.mark.parametrize(
    ("password", "refused"),
    [
        ("short", True),
        ("aaaaaaaaaaaa", True),
        ("ona@survey.example", True),
        ("x" * 300, True),
        ("four words of nonsense", False),
    ],
)
def test_password_rules(password, refused):
    assert bool(rules.password_refusal(password, email="ona@survey.example")) is refused


def test_a_password_is_the_same_however_it_is_typed():
    assert rules.comparable_password("e\u0301te\u0301 a la plage") == rules.comparable_password("été a la plage")


def test_key_secrets_have_the_published_form():
    secret = rules.new_key_secret()
    assert re.fullmatch(r"gpra_[A-Za-z0-9_-]{43}", secret)
    assert len({rules.new_key_secret() for _ in range(100)}) == 100


def test_locks_grow_up_to_a_bound():
    assert [rules.lock_after(failures) for failures in (1, 4)] == [None, None]
    assert [rules.lock_after(failures) for failures in (5, 6, 7)] == [timedelta(seconds=30 * 2**n) for n in range(3)]
    assert rules.lock_after(10_000) == timedelta(minutes=15)


@pytest.mark.parametrize(
    ("same", "human", "organization_role", "project_role", "everywhere", "right"),
    [
        (False, True, "owner", None, False, None),
        (False, False, None, None, False, None),
        (False, True, "owner", None, True, "read"),
        (True, False, None, None, False, "admin"),
        (True, True, "owner", None, False, "admin"),
        (True, True, "admin", "viewer", False, "admin"),
        (True, True, "billing", None, False, "read"),
        (True, True, "member", None, False, "read"),
        (True, True, "member", "viewer", False, "read"),
        (True, True, "member", "editor", False, "write"),
        (True, True, "viewer", "editor", False, "write"),
        (True, True, "member", "admin", False, "admin"),
        (True, True, "member", "owner", False, "admin"),
    ],
)
def test_rights_in_a_project(same, human, organization_role, project_role, everywhere, right):
    standing = rules.Standing(
        same_organization=same,
        is_human=human,
        organization_role=organization_role,
        project_role=project_role,
        reads_everywhere=everywhere,
    )
    assert rules.right_in_project(standing) == right


def test_every_scope_that_an_operation_asks_for_is_known():
    from geopera_server.kernel.registry import load

    asked = {each.scope for each in load("geopera_server.domains")}
    assert asked <= scopes.ALL


def test_roles_hold_what_the_specification_says():
    viewer, member, billing, admin, owner = (scopes.OF_ROLE[role] for role in ("viewer", "member", "billing", "admin", "owner"))
    assert {scope for scope in viewer if not scope.endswith(":read")} == {"notifications:write"}
    assert not viewer & {"admin:read", "audit:read", "api_keys:read"}
    assert viewer >= {"projects:read", "budgets:read", "billing:read", "users:read", "organizations:read", "uploads:read"}
    assert member - viewer == {
        "items:write", "collections:write", "uploads:write", "processing:process", "analytics:process", "clip:write",
        "clip:destroy", "orders:write", "projects:write", "shares:write", "band_formulas:write", "alerts:write",
        "event_subscriptions:write", "eulas:write", "organizations:write",
    }  # fmt: skip
    assert billing - viewer == {"billing:write", "usage:write", "budgets:write", "audit:read", "api_keys:read"}
    assert admin == owner == member | billing | {"api_keys:write"}
    assert member - scopes.STANDARD_FOR_KEYS == {"organizations:write"}


def test_humans():
    assert scopes.of_human(None, operator=False) == {"users:read", "users:write", "organizations:write"}
    assert scopes.of_human("viewer", operator=False) == scopes.OF_ROLE["viewer"] | {"users:read", "users:write"}
    assert scopes.of_human("viewer", operator=True) >= {"admin:read", "admin:write"}
    with pytest.raises(ValueError, match="janitor"):
        scopes.of_human("janitor", operator=False)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ("orders:read", {"orders:read"}),
        ("orders:*", {"orders:read", "orders:write"}),
        ("*:process", {"analytics:process", "processing:process"}),
        ("admin:*", {"admin:read", "admin:write"}),
        ("orders:fly", set()),
        ("*:fly", set()),
        ("nothing", set()),
        ("", set()),
        (":", set()),
    ],
)
def test_wildcards(wanted, named):
    assert scopes.named_by(wanted, operator=False) == named


def test_wide_wildcards_keep_off_operator_scopes():
    assert scopes.named_by("*", operator=False) == scopes.CUSTOMER
    assert scopes.named_by("*", operator=True) == scopes.ALL
    assert "admin:read" not in scopes.named_by("*:read", operator=True)


@pytest.mark.parametrize(
    ("scope", "asked"),
    [
        ("", None),
        ("openid profile email offline_access", None),
        ("openid catalog:read", {"catalog:read"}),
        ("catlog:read", set()),
    ],
)
def test_asked_for(scope, asked):
    assert scopes.asked_for(scope) == asked


def test_descriptions_are_there_for_people():
    assert all(text and not text.endswith(".") for text in scopes.DESCRIPTIONS.values())
    json.dumps(scopes.DESCRIPTIONS)
