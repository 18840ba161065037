"""Every operation there is, called in every way: what comes back is what our documents and the published one say."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from http import HTTPStatus

import httpx
import pytest
import pytest_asyncio
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis import APIOperation, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import FailureGroup

from geopera_server.app import DOMAINS
from geopera_server.kernel.operation import Operation
from geopera_server.kernel.registry import load
from support.examples import calmest_first, filled, garbage_bodies, things_of
from support.market import opened_market
from support.serving import Actor, problem_of

OPERATIONS = [operation for operation in load(DOMAINS) if not operation.internal]
EXAMPLES = int(os.environ.get("GEOPERA_TEST_EXAMPLES", "3"))
load_all_checks()
# What a schema allows a domain's rules may still refuse, so acceptance of every valid body is not asked for.
CHECKED = [
    CHECKS.get_one(name)
    for name in ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
]
OUTSIDE_FAILS = {(502, "upstream_error"), (503, "upstream_timeout"), (503, "worker_unavailable")}


@pytest_asyncio.fixture(scope="module")
async def market(cluster, template, tmp_path_factory, shared_data):
    async with opened_market(cluster, template, tmp_path_factory.mktemp("market"), shared_data) as opened:
        yield opened


@pytest_asyncio.fixture(scope="module")
async def known(market):
    return await things_of(market)


class Documents:
    """Schemas of replies by operation."""

    def __init__(self, *documents: dict) -> None:
        self._documents = documents

    def faults(self, operation: Operation, reply: object) -> list[str]:
        """Returns where a reply breaks the schema of a document that knows the operation."""
        found = []
        for document in self._documents:
            item = document["paths"].get(f"/v1/op/{operation.id}")
            if item is not None:
                content = item["post"]["responses"][str(operation.status)]["content"]
                schema = {**next(iter(content.values()))["schema"], "components": document["components"]}
                errors = Draft202012Validator(schema).iter_errors(reply)
                found += [f"{error.json_path}: {error.message[:200]}" for error in errors]
        return found


@pytest_asyncio.fixture(scope="module")
async def documents(market, clients_site):
    operator = await market.operator()
    headers = {"Authorization": f"Bearer {operator.token}"}
    ours = (await market.http.get("/openapi.admin.json", headers=headers)).json()
    return Documents(json.loads((clients_site / "geopera_mcp" / "kernel_openapi.json").read_text()), ours)


def fault_of(operation: Operation, response: httpx.Response, documents: Documents) -> str | None:
    """Returns what is wrong with a response, whatever was asked."""
    status = response.status_code
    if response.is_success:
        if status != operation.status:
            return f"{status} is not declared"
        if operation.media_type is not None:
            return None
        return next(iter(documents.faults(operation, response.json())), None)
    try:
        problem = problem_of(response)
    except (AssertionError, ValueError) as error:
        return f"{status} is no problem: {error} {response.text[:300]}"
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR and (status, problem["code"]) not in OUTSIDE_FAILS:
        return f"{status} {response.text[:300]}"
    return None


@dataclass
class Findings:
    """What was wrong, gathered so that one run tells it all."""

    documents: Documents
    wrong: list[str] = field(default_factory=list)

    async def call(self, actor: Actor, operation: Operation, body: object, **headers: str) -> httpx.Response:
        """Calls an operation and notes what is wrong with the response in itself."""
        response = await actor.post(operation.id, body, **headers)
        if fault := fault_of(operation, response, self.documents):
            self.note(operation, body, fault)
        return response

    def note(self, operation: Operation, body: object, fault: str) -> None:
        self.wrong.append(f"{operation.id} {json.dumps(body)[:300]}: {fault}")

    def told(self) -> str:
        return "\n".join(self.wrong)


@pytest.fixture
def findings(documents):
    return Findings(documents)


async def test_nobody_gets_in_without_a_credential(market, findings):
    nobody = httpx.AsyncClient(base_url=market.base_url)
    async with nobody:
        for operation in OPERATIONS:
            response = await nobody.post(f"/v1/op/{operation.id}")
            if fault := fault_of(operation, response, findings.documents):
                findings.note(operation, None, fault)
            if (response.status_code == 401) == operation.public:
                findings.note(operation, None, f"{response.status_code} for nobody, public: {operation.public}")
    assert not findings.wrong, findings.told()


async def test_narrow_key_opens_nothing_else(market, findings):
    """The scope is looked at before the body is."""
    owner = await market.signed_in(market.place.home.email)
    for scope in ("catalog:read", "orders:write"):
        made = await owner.op("api_keys.create", {"name": scope, "permissions": [scope]})
        narrow = Actor(market.http, made["key"])
        for operation in OPERATIONS:
            if operation.scope == scope or operation.public:
                continue
            response = await findings.call(narrow, operation, {})
            if (response.status_code, response.json().get("code")) != (403, "missing_scope"):
                findings.note(operation, {}, f"{response.status_code} with nothing but {scope}")
    assert not findings.wrong, findings.told()


async def test_operators_operations_are_closed_to_customers(market, findings):
    owner = await market.signed_in(market.place.home.email)
    for operation in [each for each in OPERATIONS if each.scope.startswith("admin:")]:
        for actor in (owner, market.home):
            response = await findings.call(actor, operation, operation.example or {})
            if response.status_code != 403:
                findings.note(operation, operation.example, f"{response.status_code} for a customer")
    assert not findings.wrong, findings.told()


@pytest.mark.parametrize("who", ["key", "owner", "operator"])
async def test_garbage_is_refused_and_breaks_nothing(market, findings, who):
    actor = await somebody(market, who)
    for operation in OPERATIONS:
        for body in ([], *garbage_bodies(operation)):
            response = await findings.call(actor, operation, body)
            if body == [] and response.status_code not in {403, 422}:
                findings.note(operation, body, f"{response.status_code} for a list")
    assert not findings.wrong, findings.told()


async def test_strangers_are_told_nothing(market, known, findings):
    """Whatever a stranger asks of things that are there, the reply is not made of them."""
    stranger = await market.signed_in(market.place.stranger.email)
    theirs = {value for name, value in known.items() if name.endswith(("_id", "Id"))}
    for operation in calmest_first(OPERATIONS):
        example = filled(operation, known)
        if {"token", "password"} <= example.keys():
            continue  # whoever was sent a link with its password is meant to see what it shares
        response = await findings.call(stranger, operation, example)
        if response.is_success and any(each in response.text for each in theirs):
            findings.note(operation, example, f"a stranger is told {response.text[:300]}")
    assert not findings.wrong, findings.told()


@pytest.mark.parametrize("who", ["key", "owner"])
async def test_documented_reads_answer_every_way_of_asking(market, known, findings, who):
    actor = await somebody(market, who)
    for operation in [each for each in OPERATIONS if each.reads and not each.scope.startswith("admin:")]:
        example = filled(operation, known)
        response = await findings.call(actor, operation, example)
        if not response.is_success and not (who == "key" and response.status_code == 403):
            findings.note(operation, example, f"{response.status_code} {response.text[:300]}")
        query = {name: value if isinstance(value, str) else json.dumps(value) for name, value in example.items()}
        headers = {"Authorization": f"Bearer {actor.token}"}
        for address in (f"/v1/op/{operation.id}", f"/v1/{operation.id.replace('.', '/')}"):
            asked = await market.http.get(address, params=query, headers=headers)
            led_on = asked.has_redirect_location and asked.headers["location"] == response.headers.get("location")
            if asked.status_code != response.status_code and not led_on:
                findings.note(operation, example, f"{asked.status_code} {asked.text[:300]} for GET {address}")
    assert not findings.wrong, findings.told()


@pytest.mark.parametrize("who", ["key", "owner", "operator"])
async def test_documented_changes_are_no_invalid_input(market, known, findings, who):
    """They may meet a state or a role that forbids them; under one key nothing happens twice."""
    actor = await somebody(market, who)
    for operation in calmest_first(OPERATIONS):
        if operation.reads:
            continue
        await findings.call(actor, operation, {})
        example, key = filled(operation, known), f"{operation.id}-{who}"
        response = await findings.call(actor, operation, example, Idempotency_Key=key)
        if response.status_code == 422:
            findings.note(operation, example, f"the documented example is invalid: {response.text[:300]}")
        if operation.idempotent and response.is_success:
            again = await findings.call(actor, operation, example, Idempotency_Key=key)
            if "idempotency-replayed" not in again.headers and again.status_code != 409:
                findings.note(operation, example, f"{again.status_code} {again.text[:300]} for the same key")
    assert not findings.wrong, findings.told()


async def somebody(market, who) -> Actor:
    if who == "key":
        return market.home
    return await (market.operator() if who == "operator" else market.signed_in(market.place.home.email))


ODD_ADDRESSES = [
    "/", "/v1", "/v1/", "/v1/op", "/v1/op/", "/v1/op/%ff%00", "/v1/op/orders.get/", "/v1//orders//get", "/v1/op/a%0d%0aX-A:%20b",
    "/v1/op/orders.get?order_id=%ff", "/v1/op/orders.get?order_id=%00", "/v1/op/catalog.search?bbox=[1,2", "/files/%00?expires=x",
    "/files/..%2f..%2fetc%2fpasswd?expires=1&name=a&type=b&signature=%ff", "/v1/op/catalog.search?bbox=nan&bbox=inf",
]  # fmt: skip


@pytest.mark.parametrize("address", ODD_ADDRESSES)
async def test_odd_addresses_are_refused(market, address):
    headers = {"Authorization": f"Bearer {market.place.home.api_key}"}
    response = await market.http.get(address, headers=headers)
    assert response.status_code in {404, 422}
    problem_of(response)


def documented(document: dict) -> list[APIOperation]:
    return [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]


def fuzzed(operation: APIOperation, mode: GenerationMode, base_url: str, token: str, session: requests.Session) -> list[str]:
    """Sends an operation what its schema allows, or forbids, and returns what the checks find wrong with the replies."""
    wrong = []

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(mode))
    def send(case: schemathesis.Case) -> None:
        # Generated headers would hold nothing but credentials that nobody has.
        case.headers = {}
        response = case.call(base_url=base_url, session=session, headers={"Authorization": f"Bearer {token}"})
        try:
            case.validate_response(response, checks=CHECKED)
        except FailureGroup as failures:
            wrong.extend(
                f"{operation.path} {json.dumps(case.body, default=repr)[:300]}: {failure}" for failure in failures.exceptions
            )

    send()
    return wrong


@pytest.mark.parametrize("mode", GenerationMode, ids=lambda mode: mode.value)
@pytest.mark.parametrize("who", ["owner", "operator"])
async def test_replies_conform_to_our_documents(market, who, mode):
    actor = await somebody(market, who)
    path = "/openapi.admin.json" if who == "operator" else "/openapi.json"
    document = (await market.http.get(path, headers={"Authorization": f"Bearer {actor.token}"})).json()

    def everything() -> list[str]:
        with requests.Session() as session:
            session.trust_env = False
            operations = [each for each in documented(document) if (".admin." in each.path) == (who == "operator")]
            return [fault for each in operations for fault in fuzzed(each, mode, market.base_url, actor.token, session)]

    wrong = await asyncio.to_thread(everything)
    assert not wrong, "\n".join(wrong)
