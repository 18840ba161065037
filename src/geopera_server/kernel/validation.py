"""Turns a request body or query into the operation's typed input, or says exactly what is wrong with it."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ValidationError

from geopera_server.kernel.errors import InvalidInput, Malformed, issue
from geopera_server.kernel.operation import Operation

MAX_DEPTH = 64
LEAST_INTEGER, GREATEST_INTEGER = -(2**63), 2**64 - 1


def parse_body(body: bytes) -> dict[str, Any]:
    """Returns the JSON object of a body; an empty body is an empty object.

    Raises Malformed for what is not JSON (NaN and Infinity are not), InvalidInput for JSON that is no object.
    """
    if not body.strip():
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"The body is not JSON: {error}. Send one JSON object.") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput("The body must be one JSON object.", loc=())
    return value


def parse_input(operation: Operation, given: Mapping[str, Any]) -> Any:
    """Returns the validated input model; `id` stands for a sole required `…_id`. Raises InvalidInput with every issue."""
    _refuse_unstorable(given, (), 0)
    sole = operation.sole_id_input
    if sole is not None and sole not in given and "id" in given:
        given = {**given, sole: given["id"]}
    try:
        return operation.input_model.model_validate(given)
    except ValidationError as error:
        raise InvalidInput.of(issues_of(error)) from error


def issues_of(error: ValidationError) -> list[dict[str, Any]]:
    """Returns what a 422 lists about input that breaks a model."""
    return [_issue_of(each) for each in error.errors(include_url=False)]


def _issue_of(error: Any) -> dict[str, Any]:
    location = [part for part in error["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
    return issue(str(error["msg"]).removeprefix("Value error, "), loc=location, kind=str(error["type"]))


def _refuse_unstorable(value: Any, loc: tuple[str | int, ...], depth: int) -> None:
    """NUL cannot be stored as text, nor larger numbers than these kept exactly; neither is anybody's real input."""
    if depth > MAX_DEPTH:
        raise InvalidInput(f"The body is nested deeper than {MAX_DEPTH} levels.", loc=loc[:8])
    if isinstance(value, str):
        if "\x00" in value:
            raise InvalidInput("Text must not hold a NUL character.", loc=loc)
        if _has_surrogate(value):
            raise InvalidInput("Text must be valid Unicode.", loc=loc)
    elif isinstance(value, (int, float)):
        _refuse_unwritable(value, loc)
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            _refuse_unstorable(key, (*loc, key), depth + 1)
            _refuse_unstorable(entry, (*loc, key), depth + 1)
    elif isinstance(value, Sequence):
        for position, entry in enumerate(value):
            _refuse_unstorable(entry, (*loc, position), depth + 1)


def _refuse_unwritable(value: float, loc: tuple[str | int, ...]) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidInput("Numbers must be finite.", loc=loc)
    if isinstance(value, int) and not LEAST_INTEGER <= value <= GREATEST_INTEGER:
        raise InvalidInput("Integers must fit in 64 bits.", loc=loc)


_SURROGATE = re.compile("[\ud800-\udfff]")


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and _SURROGATE.search(text) is not None


@functools.cache
def known_keys(model: type[BaseModel]) -> frozenset[str]:
    """Returns every spelling of every field that the model reads."""
    keys: set[str] = set()
    for name, field in model.model_fields.items():
        keys.add(name)
        keys.update(alias for alias in (field.alias, field.validation_alias) if isinstance(alias, str))
        choices = getattr(field.validation_alias, "choices", ())
        keys.update(choice for choice in choices if isinstance(choice, str))
    return frozenset(keys)


def ignored_fields(operation: Operation, given: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns a warning for each given key that the operation does not know."""
    unknown = given.keys() - known_keys(operation.input_model) - {"id"}
    return [{"code": "ignored_field", "field": key} for key in sorted(unknown)]


def from_query(operation: Operation, query: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Returns the input that a query string means: arrays by repetition or JSON text, objects by JSON text."""
    given: dict[str, Any] = {}
    shapes = _query_shapes(operation.input_model)
    for key, text in query:
        shape = shapes.get(key, "text")
        if shape == "text":
            given[key] = text
        elif text.lstrip().startswith(("[", "{")):
            given[key] = _json_value(key, text)
        elif shape == "array":
            given.setdefault(key, []).append(text)
        else:
            given[key] = text
    return given


def _json_value(key: str, text: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{key} is not JSON: {error}.", loc=(key,)) from error


@functools.cache
def _query_shapes(model: type[BaseModel]) -> dict[str, str]:
    shapes: dict[str, str] = {}
    for name, schema in model.model_json_schema(by_alias=True).get("properties", {}).items():
        options = [schema, *schema.get("anyOf", [])]
        kinds = {option.get("type", "object" if "$ref" in option else None) for option in options}
        shapes[name] = "array" if "array" in kinds else "object" if "object" in kinds else "text"
    return shapes
