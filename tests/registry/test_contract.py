"""Our OpenAPI document against the published one, for every operation that exists so far."""

from __future__ import annotations

import json

import pytest

from geopera_server.app import DOMAINS
from geopera_server.kernel.operation import Operation
from geopera_server.kernel.registry import Registry, load
from geopera_server.transports.http.openapi import openapi

REGISTRY = load(DOMAINS)
OURS = openapi(REGISTRY, operator=True)
CONTRACT_IDS = [op.id for op in REGISTRY if not op.internal and not op.extension]
EXTENSIONS = (
    "x-side-effect",
    "x-required-scope",
    "x-produces",
    "x-public",
    "x-raw-response",
    "x-kernel-version",
    "x-output-media-type",
)


@pytest.fixture(scope="session")
def published(clients_site):
    return json.loads((clients_site / "geopera_mcp" / "kernel_openapi.json").read_text())


@pytest.mark.parametrize("operation_id", CONTRACT_IDS)
def test_operation_is_as_published(operation_id, published):
    theirs = published["paths"][f"/v1/op/{operation_id}"]["post"]
    ours = OURS["paths"][f"/v1/op/{operation_id}"]["post"]
    assert {name: ours.get(name) for name in EXTENSIONS} == {name: theirs.get(name) for name in EXTENSIONS}
    assert ours["operationId"] == theirs["operationId"]
    assert [code for code in ours["responses"] if code[0] == "2"] == [code for code in theirs["responses"] if code[0] == "2"]
    assert set(theirs["responses"]) <= set(ours["responses"])
    assert {p["name"] for p in theirs["parameters"]} <= {p["name"] for p in ours["parameters"]}
    assert theirs["requestBody"].get("required", False) == ours["requestBody"].get("required", False)


@pytest.mark.parametrize("operation_id", CONTRACT_IDS)
def test_input_takes_what_was_published(operation_id, published):
    theirs = resolved(published, request_schema(published, operation_id))
    ours = resolved(OURS, request_schema(OURS, operation_id))
    if "properties" not in theirs:
        assert kinds(ours, OURS) == kinds(theirs, published)
        return
    assert set(theirs["properties"]) <= set(ours["properties"])
    assert set(ours.get("required", [])) == set(theirs.get("required", []))
    for name, schema in theirs["properties"].items():
        assert kinds(schema, published) <= kinds(ours["properties"][name], OURS), name
        assert ours["properties"][name].get("default") == schema.get("default"), name


@pytest.mark.parametrize("operation_id", CONTRACT_IDS)
def test_typed_output_holds_what_was_published(operation_id, published):
    theirs = resolved(published, reply_schema(published, operation_id))
    ours = resolved(OURS, reply_schema(OURS, operation_id))
    if not theirs.get("properties"):
        return
    assert set(theirs["properties"]) <= set(ours["properties"])
    assert set(theirs.get("required", [])) <= set(ours.get("required", []))
    for name, schema in theirs["properties"].items():
        assert kinds(ours["properties"][name], OURS) <= kinds(schema, published), name


def request_schema(document, operation_id):
    return document["paths"][f"/v1/op/{operation_id}"]["post"]["requestBody"]["content"]["application/json"]["schema"]


def reply_schema(document, operation_id):
    responses = document["paths"][f"/v1/op/{operation_id}"]["post"]["responses"]
    content = next(responses[code] for code in responses if code[0] == "2")["content"]
    return next(iter(content.values()))["schema"]


def resolved(document, schema):
    if "$ref" in schema:
        return resolved(document, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return schema


def kinds(schema, document) -> set[str]:
    """Returns the JSON types a schema allows; an integer is a number too."""
    schema = resolved(document, schema)
    found: set[str] = set()
    for option in [schema, *schema.get("anyOf", []), *schema.get("oneOf", []), *schema.get("allOf", [])]:
        kind = resolved(document, option).get("type")
        found.update([kind] if isinstance(kind, str) else kind or [])
    if not found:
        found = {"string", "number", "integer", "boolean", "object", "array", "null"}
    return found | ({"integer"} if "number" in found else set())


@pytest.mark.parametrize("operation", [op for op in REGISTRY if not op.internal], ids=lambda op: op.id)
def test_operation_is_documented(operation: Operation):
    assert operation.summary.endswith("."), "the first line of the docstring is the summary: one sentence"
    assert operation.scope.count(":") == 1
    needs_input = any(field.is_required() for field in operation.input_model.model_fields.values())
    assert operation.example is not None or not needs_input, "an operation with required input shows an example"
    if operation.example is not None:
        operation.input_model.model_validate(operation.example)


def test_extensions_are_marked(published):
    contract = {path.removeprefix("/v1/op/") for path in published["paths"]}
    wrong = [op.id for op in REGISTRY if not op.internal and op.extension == (op.id in contract)]
    assert wrong == []


def test_no_id_is_a_prefix_of_another():
    registry = Registry()
    first = next(iter(REGISTRY))
    registry.add(first)
    with pytest.raises(ValueError, match="clashes"):
        registry.add(first)
