"""The OpenAPI 3.1 document, made from the registry and nothing else."""

from __future__ import annotations

import http
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from geopera_server.kernel.operation import Operation
from geopera_server.kernel.registry import Registry
from geopera_server.transports.http.problems import MEDIA_TYPE as PROBLEM_TYPE
from geopera_server.values.encoding import dumps

REF_TEMPLATE = "#/components/schemas/{model}"
_PROBLEM = {"$ref": "#/components/schemas/Problem"}
_NULLABLE_TEXT = {"anyOf": [{"type": "string"}, {"type": "null"}]}
_ALWAYS = (401, 403, 404, 422, 500)
_SHARED = {
    "Problem": {
        "title": "Problem",
        "description": "What every failure says (RFC 9457), with a stable code.",
        "type": "object",
        "required": ["title", "status", "detail"],
        "properties": {
            "type": {"type": "string", "default": "about:blank", "description": "Names the kind of problem."},
            "title": {"type": "string", "description": "The status in words."},
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": {"type": "string", "description": "What happened and what to do next."},
            "code": {"type": "string", "description": "A stable word for programs to decide on."},
            "invocation_id": {"type": "string", "description": "Names this call in audit and lineage."},
        },
    },
    "ValidationError": {
        "title": "ValidationError",
        "type": "object",
        "required": ["loc", "msg", "type"],
        "properties": {
            "loc": {"title": "Location", "type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
            "msg": {"title": "Message", "type": "string"},
            "type": {"title": "Error Type", "type": "string"},
        },
    },
    "HTTPValidationError": {
        "title": "HTTPValidationError",
        "type": "object",
        "properties": {
            "detail": {"title": "Detail", "type": "array", "items": {"$ref": "#/components/schemas/ValidationError"}}
        },
    },
}
_SECURITY_SCHEMES = {
    "HTTPBearer": {"type": "http", "scheme": "bearer"},
    "bearerAuth": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "An access token."},
    "apiKeyBearer": {"type": "http", "scheme": "bearer", "description": "An API key in place of a token."},
    "apiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "oauth2Token": {
        "type": "oauth2",
        "description": "Exchange an API key or a password for an access token.",
        "flows": {
            flow: {"tokenUrl": "/realms/public/protocol/openid-connect/token", "scopes": {}}
            for flow in ("clientCredentials", "password")
        },
    },
}


def openapi_bytes(registry: Registry, *, operator: bool) -> bytes:
    """Returns the document as JSON; the operators' one also lists the `.admin.` operations."""
    return dumps(openapi(registry, operator=operator))


def openapi(registry: Registry, *, operator: bool) -> dict[str, Any]:
    """Returns the document; paths in the order of their ids."""
    listed = [op for op in registry if not op.internal and (operator or not op.for_operators)]
    inputs, outputs, definitions = _schemas(listed)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Geopera Server",
            "version": "2.0.0",
            "description": "Every capability is one operation: POST /v1/op/{id} with a JSON object. Reads also answer GET.",
        },
        "paths": {f"/v1/op/{op.id}": {"post": _path_item(op, inputs[op.id], outputs[op.id])} for op in listed},
        "components": {"schemas": {**definitions, **_SHARED}, "securitySchemes": _SECURITY_SCHEMES},
        "security": [{"HTTPBearer": []}],
        "tags": [
            {"name": "kernel-ops", "description": "Operations."},
            {"name": "kernel", "description": "Free-form operations."},
        ],
    }


def _schemas(listed: list[Operation]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    wanted: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = []
    for op in listed:
        wanted.append((op.id, "validation", TypeAdapter(op.input_model)))
        if op.media_type is None:
            wanted.append((op.id, "serialization", op.output))
    made, rest = TypeAdapter.json_schemas(wanted, by_alias=True, ref_template=REF_TEMPLATE)
    inputs = {key: schema for (key, mode), schema in made.items() if mode == "validation"}
    outputs = {op.id: made.get((op.id, "serialization"), {}) for op in listed}
    return inputs, outputs, rest.get("$defs", {})


def _path_item(op: Operation, given: Any, answered: Any) -> dict[str, Any]:
    item: dict[str, Any] = {
        "operationId": op.id,
        "summary": op.summary,
        "tags": ["kernel" if op.free_form else "kernel-ops"],
        "parameters": _parameters(op),
        "requestBody": _request_body(op, given),
        "responses": _responses(op, answered),
        "security": [{"HTTPBearer": []}],
        "x-side-effect": op.effect,
        "x-required-scope": op.scope,
        "x-produces": list(op.produces),
        "x-public": op.public,
        "x-raw-response": op.raw,
        "x-kernel-version": op.version,
    }
    if op.description:
        item["description"] = op.description
    if op.media_type:
        item["x-output-media-type"] = op.media_type
    if op.extension:
        item["x-extension"] = True
    if op.free_form:
        item["x-input-schema"] = given
    return item


def _parameters(op: Operation) -> list[dict[str, Any]]:
    names = ["Idempotency-Key"] if op.idempotent else []
    return [{"in": "header", "name": name, "required": False, "schema": _NULLABLE_TEXT} for name in [*names, "x-api-key"]]


def _request_body(op: Operation, given: Any) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {"anyOf": [{"type": "object"}, {"type": "null"}]} if op.free_form else given}
    if op.example is not None:
        content["example"] = op.example
    body: dict[str, Any] = {"content": {"application/json": content}}
    return body if op.free_form else {**body, "required": True}


def _responses(op: Operation, answered: Any) -> dict[str, Any]:
    media_types = dict.fromkeys((op.media_type or "application/json", *op.other_media_types))
    if op.media_type is None:
        media_types[op.json_media_type] = None
    content = {media_type: {"schema": answered} for media_type in media_types}
    responses: dict[str, Any] = {str(op.status): {"description": "Successful Response", "content": content}}
    for status in (*_ALWAYS, *_refusals_beyond(op)):
        phrase = http.HTTPStatus(status).phrase
        if status == 422:
            refused: dict[str, Any] = {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/HTTPValidationError"}}}
            responses["422"] = {"description": "Validation Error", "content": refused}
        else:
            responses[str(status)] = {"description": phrase, "content": {PROBLEM_TYPE: {"schema": _PROBLEM}}}
    return responses


def _refusals_beyond(op: Operation) -> list[int]:
    """Returns what the published document leaves out: malformed bodies, money, state, size, rates, and what is outside."""
    statuses = [400, 413, 429, 503]
    if not op.reads:
        statuses += [402, 409, 410]
    if op.goes_outside or op.prepare is not None:
        statuses += [502]
    return sorted(statuses)
