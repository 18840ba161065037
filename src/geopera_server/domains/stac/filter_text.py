"""Filters in CQL2 text, as the STAC API's query strings have them, held to a size before anything parses them.

The parser takes twice as long for each parenthesis that an unfinished one stands in, and ends the process where operators are
chained by the thousand.
"""

from __future__ import annotations

import re
from typing import Any

import cql2

from geopera_server.kernel.errors import InvalidInput

MAX_OPERATORS = 1_000
# Characters, doubled for each level of parentheses: about a tenth of a second.
MAX_WORK = 250_000

_QUOTED = re.compile(r"""'[^']*'|"[^"]*\"""")
_OPERATOR = re.compile(r"[-+*/^%]|\b(?:not|div)\b", re.IGNORECASE)
_TOO_LARGE = "The filter is too long, or nested too deeply. Send it as CQL2-JSON, or narrow it."


def tree_of(text: str) -> Any:
    """Returns CQL2 text as CQL2-JSON; raises InvalidInput for what is none, and for what is too large."""
    _check_size(text)
    try:
        return cql2.parse_text(text).to_json()
    except (cql2.ParseError, cql2.ValidationError, ValueError) as error:
        raise _refused('filter is not CQL2 text, such as "eo:cloud_cover" < 20.') from error


def _check_size(text: str) -> None:
    if len(text) > MAX_WORK:
        raise _refused(_TOO_LARGE)
    if "\\'" in text or '\\"' in text:
        raise _refused("A quote within a text is written twice, as in 'it''s', without a backslash.")
    bare = _QUOTED.sub(" ", text)
    if "'" in bare or '"' in bare:
        raise _refused("filter has a quote that is never closed.")
    depth = deepest = 0
    for each in re.findall(r"[()\[\]]", bare):
        depth = depth + 1 if each in "([" else max(0, depth - 1)
        deepest = max(deepest, depth)
    if len(text) << min(deepest, 64) > MAX_WORK or len(_OPERATOR.findall(bare)) > MAX_OPERATORS:
        raise _refused(_TOO_LARGE)


def _refused(msg: str) -> InvalidInput:
    return InvalidInput(msg, loc=("filter",))
