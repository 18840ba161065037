"""The fields extension: which members of its features a search answers with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from geopera_server.kernel.errors import InvalidInput

_ALWAYS = ("id", "type", "collection")
_TOP = frozenset(
    {"id", "type", "stac_version", "stac_extensions", "geometry", "bbox", "properties", "links", "assets", "collection"}
)
Paths = frozenset[tuple[str, ...]]


def read_fields(given: Mapping[str, Any] | Iterable[str] | None) -> tuple[Paths, Paths] | None:
    """Returns what to include and what to leave out; None for whole features.

    Given is `{"include": [...], "exclude": [...]}`, or names of which those to leave out have a minus before them.
    """
    if not given:
        return None
    if isinstance(given, Mapping):
        include, exclude = given.get("include") or [], given.get("exclude") or []
    else:
        names = [name.strip() for text in given for name in str(text).split(",") if name.strip()]
        include = [name.removeprefix("+") for name in names if not name.startswith("-")]
        exclude = [name.removeprefix("-") for name in names if name.startswith("-")]
    for names in (include, exclude):
        if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
            raise InvalidInput('fields is {"include": [...], "exclude": [...]} with names of members.', loc=("fields",))
    if not include and not exclude:
        return None
    return frozenset(_path(name) for name in include), frozenset(_path(name) for name in exclude)


def _path(name: str) -> tuple[str, ...]:
    """Names beside STAC's own members mean properties; names of properties may themselves have dots."""
    top, _, rest = name.partition(".")
    if top not in _TOP:
        return ("properties", name)
    if not rest:
        return (top,)
    return (top, rest) if top == "properties" else (top, *rest.split("."))


def narrowed(feature: dict[str, Any], fields: tuple[Paths, Paths]) -> dict[str, Any]:
    """Returns the members of a feature that are wanted; its id, type and collection always are.

    What is both included and excluded is included, and so is a part of something excluded.
    """
    include, exclude = fields
    always = {(name,) for name in _ALWAYS}
    kept = feature if not include else _only(feature, include | always)
    overruled = always | {path[:length] for path in include for length in range(1, len(path) + 1)}
    return _without(kept, exclude - overruled)


def _only(value: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    whole = {path[0] for path in paths if len(path) == 1}
    deeper = {path[0] for path in paths if len(path) > 1} - whole
    found = {name: value[name] for name in value if name in whole}
    for name in deeper & value.keys():
        if isinstance(value[name], dict):
            found[name] = _only(value[name], {path[1:] for path in paths if path[0] == name and len(path) > 1})
    return found


def _without(value: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> dict[str, Any]:
    gone = {path[0] for path in paths if len(path) == 1}
    found = {name: each for name, each in value.items() if name not in gone}
    for name in {path[0] for path in paths if len(path) > 1} & found.keys():
        if isinstance(found[name], dict):
            found[name] = _without(found[name], {path[1:] for path in paths if path[0] == name and len(path) > 1})
    return found
