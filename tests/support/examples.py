"""Bodies for calling every operation there is: what it documents, with ids that exist, and what nobody should send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.kernel.operation import Operation

GARBAGE: dict[str, Any] = {
    "object": {"a": [{}]},
    "list": [[None]],
    "number": -1.5e300,
    "text": "'\"; --\\ %s {0} \u0131\ufffd\U0001f6f0",
    "boolean": True,
    "null": None,
}


def fitting(example: Any, known: Mapping[str, Any]) -> Any:
    """Returns the example with every member replaced whose name is known."""
    if isinstance(example, Mapping):
        return {key: known[key] if key in known else fitting(value, known) for key, value in example.items()}
    if isinstance(example, list):
        return [fitting(each, known) for each in example]
    return example


def garbage_bodies(operation: Operation) -> list[Any]:
    """Returns one body for each kind of garbage, in which every field of the operation holds it."""
    fields = [field.alias or name for name, field in operation.input_model.model_fields.items()] or ["anything"]
    return [dict.fromkeys(fields, value) for value in GARBAGE.values()]
