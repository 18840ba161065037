"""The query extension of STAC's item search: a few operators on properties, as conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from geopera_server.domains.stac import comparing
from geopera_server.domains.stac.conditions import Bindings, Both, Condition, Plain
from geopera_server.domains.stac.operands import Operand, literal, named
from geopera_server.kernel.errors import InvalidInput

MAX_TERMS = 100
_COMPARISONS = {"eq": "=", "neq": "<>", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
OPERATORS = (*_COMPARISONS, "in", "startsWith", "endsWith", "contains")
# The columns of an item under the names that items.list gives them, beside their STAC names.
ITEM_COLUMNS = {
    "cloud_cover": "eo:cloud_cover", "type": "geopera:item_type", "name": "title", "created_at": "created",
    "updated_at": "updated", "stac_id": "id", "collection_id": "collection", "lifecycle_state": "geopera:lifecycle_state",
}  # fmt: skip


def read_query(bindings: Bindings, query: Mapping[str, Any], aliases: Mapping[str, str]) -> Condition:
    """Returns the condition that every property's operators hold; raises InvalidInput for unknown operators and values."""
    terms = [(name, word, value) for name, operators in query.items() for word, value in _operators(operators)]
    if len(terms) > MAX_TERMS:
        _refuse(f"A query has at most {MAX_TERMS} terms.", ())
    return Both(tuple(_condition(bindings, aliases.get(name, name), word, value) for name, word, value in terms))


def _operators(operators: Any) -> list[tuple[str, Any]]:
    if isinstance(operators, Mapping):
        return list(operators.items())
    return [("eq", operators)]


def _condition(bindings: Bindings, name: str, word: str, value: Any) -> Plain:
    known = named(bindings, name)
    if known.geometry:
        _refuse("Search places with bbox or intersects.", (name,))
    if word in _COMPARISONS:
        compared = _literal(bindings, value, (name, word))
        during = comparing.window_of(_COMPARISONS[word], known, compared, names=[name, None])
        terms = comparing.terms_of(known, [compared]) if word == "eq" else None
        return Plain(sql=comparing.comparison(_COMPARISONS[word], known, compared), during=during, terms=terms)
    if word == "in":
        if not isinstance(value, list) or len(value) > MAX_TERMS:
            _refuse(f"in takes a list of at most {MAX_TERMS} values.", (name, word))
        choices = [_literal(bindings, each, (name, word)) for each in value]
        return Plain(sql=comparing.one_of(known, choices), terms=comparing.terms_of(known, choices))
    if word in {"startsWith", "endsWith", "contains"}:
        if not isinstance(value, str):
            _refuse(f"{word} takes a text.", (name, word))
        escaped = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        pattern = {"startsWith": escaped + "%", "endsWith": "%" + escaped, "contains": "%" + escaped + "%"}[word]
        return Plain(sql=comparing.like(known, Operand(views={"text": bindings.bind(pattern) + "::text"}, is_null="false")))
    return _refuse(f"{word!r} is no operator of a query. There are: {', '.join(OPERATORS)}.", (name, word))


def _literal(bindings: Bindings, value: Any, loc: Sequence[str]) -> Operand:
    if not isinstance(value, (bool, int, float, str)):
        _refuse("A value is a number, a text or a truth value.", loc)
    return literal(bindings, value)


def _refuse(msg: str, loc: Sequence[str]) -> NoReturn:
    raise InvalidInput(msg, loc=("query", *loc), code="unknown_field_value")
