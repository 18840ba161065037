"""CQL2 text of any shape is read or refused quickly, and never ends the process."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from geopera_server.domains.stac.filter_text import tree_of
from geopera_server.kernel.errors import InvalidInput


@pytest.mark.parametrize(
    "text",
    [
        "\"eo:cloud_cover\" < 20 AND platform = 'it''s (one)'",
        "((((gsd = 1 OR gsd = 2) AND a = 1) OR b = 2) AND c = 3)",
        "S_INTERSECTS(geometry, MULTIPOLYGON(((-10 -20, -11 -21, 3 4, -10 -20))))",
        "datetime >= TIMESTAMP('2024-01-31T00:00:00Z')",
        "title LIKE '100\\%((('",
        "gsd IN (" + ",".join(str(number) for number in range(5_000)) + ")",
        "NOT (a = 1) AND b BETWEEN -1 AND +1",
    ],
)
def test_what_people_write_is_read(text):
    assert {"op", "args"} <= tree_of(text).keys()


HOSTILE = {
    "open": "(" * 40 + "a=1",
    "many": "(" * 100_000,
    "nested": "(" * 3_000 + "a=1" + ")" * 3_000,
    "broken": "(" * 30 + "a+" + ")" * 30,
    "nots": "NOT " * 20_000 + "a=1",
    "signs": "a=" + "-" * 60_000 + "1",
    "sums": "a=" + "+".join(["1"] * 60_000),
    "list": "(" * 12 + "a IN (" + ",".join(["1"] * 2_000),
    "masked": "a = '" + ")" * 40 + "' AND " + "(" * 40 + "a=1",
    "unclosed": "a = ' " + "(" * 40,
    "backslash": "a = '\\'" + "(" * 30 + "'",
    "names": '"' + ")" * 40 + '" = ' + "(" * 40,
    "brackets": "a = " + "[" * 4_000,
    "long": "a=1 AND " * 100_000,
}


def test_hostile_text_is_refused_at_once():
    for name, text in HOSTILE.items():
        began = time.monotonic()
        with pytest.raises(InvalidInput):
            tree_of(text)
        assert time.monotonic() - began < 1, name


def test_the_limits_leave_the_process_alive():
    """At the very limits, in a process of its own: what the parser overruns is the stack."""
    texts = ["a=" + "-" * 999 + "1", "a=" + "+".join(["1"] * 1_000), "NOT " * 999 + "a=1", "(" * 12 + "a=1" + ")" * 12]
    program = "import cql2, sys\nfor text in sys.argv[1:]:\n try: cql2.parse_text(text).to_json()\n except ValueError: pass"
    ended = subprocess.run([sys.executable, "-c", program, *texts], check=False, capture_output=True, timeout=30)
    assert ended.returncode in {0, 1}, ended.stderr
