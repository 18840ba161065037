from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geopera_server.raster.errors import FormulaError
from geopera_server.raster.formula import FUNCTIONS, MAX_CHARACTERS, MAX_DEPTH, MAX_NODES, parse

B1 = np.array([[1.0, 2.0, 0.0, 4.0]], np.float32)
B2 = np.array([[4.0, 2.0, 0.0, -1.0]], np.float32)
NONE = math.nan
ALL = np.ones((1, 4), np.bool_)


def values(text: str, **names: int) -> list[float]:
    """The value of each pixel, NaN where there is none."""
    formula = parse(text, names=names)
    found, present = formula.evaluate({1: B1, 2: B2}, ALL)
    assert found.dtype == np.float32
    return [float(value) if there else NONE for value, there in zip(found[0], present[0], strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("b1 + b2", [5, 4, 0, 3]),
        ("b1-b2-1", [-4, -1, -1, 4]),
        ("b1 / b2", [0.25, 1, NONE, -4]),
        ("1 / b1 * b1", [1, 1, NONE, 1]),
        ("1 / (1 / b1)", [1, 2, NONE, 4]),
        ("-b1 ** 2", [-1, -4, 0, -16]),
        ("2 ** -b1", [0.5, 0.25, 1, 0.0625]),
        ("2 ** 3 ** 2", [512] * 4),
        ("(b1 - b2) / (b1 + b2)", [-0.6, 0, NONE, 5 / 3]),
        ("b1 > b2", [0, 0, 0, 1]),
        ("b1 >= b2 and not b1 == 0", [0, 1, 0, 1]),
        ("not b1", [0, 0, 1, 0]),
        ("b1 == 0 or b2 < 0", [0, 0, 1, 1]),
        ("where(b1 == 0, -1, 1 / b1)", [1, 0.5, -1, 0.25]),
        ("where(1 / b1, 5, 6)", [5, 5, NONE, 5]),
        ("1 / b1 > 0.3", [1, 1, NONE, 0]),
        ("clip(1 / b1, 0, 1)", [1, 0.5, NONE, 0.25]),
        ("min(b1, b2, 1)", [1, 1, 0, -1]),
        ("max(1 / b1, 0)", [1, 0.5, NONE, 0.25]),
        ("sqrt(b2)", [2, math.sqrt(2), 0, NONE]),
        ("log10(b1)", [0, math.log10(2), NONE, math.log10(4)]),
        ("log(b2)", [math.log(4), math.log(2), NONE, NONE]),
        ("exp(b1 * 0)", [1] * 4),
        ("exp(1000 * b1)", [NONE, NONE, 1, NONE]),
        ("floor(b1 / 3) + ceil(b1 / 3) + abs(-1)", [2, 2, 1, 4]),
        ("b2 ** 0.5", [2, math.sqrt(2), 0, NONE]),
        ("0 ** (b1 - 1)", [1, 0, NONE, 0]),
        (".5e1", [5] * 4),
    ],
)
def test_formulas_mean_what_they_say(text, expected):
    assert values(text) == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_names_are_given_or_counted_from_one():
    assert values("nir - RED", nir=2, red=1) == [3, 0, 0, -5]
    assert parse("B8A / b1", names={"B8A": 9}).bands == (1, 9)
    assert parse("b12").bands == (12,)
    # A given name wins over the number that it seems to hold.
    assert parse("b1", names={"b1": 4}).bands == (4,)


def test_invalid_pixels_stay_invalid():
    found, present = parse("b1 * 0 + 7").evaluate({1: B1}, np.array([[True, False, True, False]]))
    assert present.tolist() == [[True, False, True, False]]
    assert found.tolist() == [[7, 0, 7, 0]]


def test_many_intermediate_values_of_a_large_raster_take_little_memory():
    many = ",".join(["b1*2"] * 15)
    formula = parse(f"max({many},max({many},max({many},b1)))")
    pixels, valid = np.ones((1024, 1031), np.float64), np.ones((1024, 1031), np.bool_)
    valid[1000:, :5] = False
    tracemalloc.start()
    try:
        found, present = formula.evaluate({1: pixels}, valid)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 8 * pixels.nbytes
    assert (present == valid).all()
    assert (found[valid] == 2).all()
    assert not found[~valid].any()


def test_wide_integers_keep_their_last_digits():
    band = np.array([[16_777_217, 16_777_216]], np.int32)
    found, _ = parse("b1 - 16777216").evaluate({1: band}, np.ones((1, 2), np.bool_))
    assert found.tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 0), ("b1 +", 4), ("b1 b2", 3), ("(b1", 3), ("b1)", 2), ("b0", 0), ("red", 0), ("foo(b1)", 0), ("sqrt(b1, b2)", 0),
        ("where(b1, 2)", 0), ("1 < b1 < 2", 7), ("b1 % 2", 3), ("b1 // 2", 4), ("b1.mean", 2), ("b1[0]", 2), ("'b1'", 0),
        ("b1 = 2", 3), ("b1; b2", 2), ("lambda: 1", 6), ("b1 if b2 else 1", 3), ("__import__('os')", 11), ("sqrt()", 5),
        ("b1 & b2", 3), ("~b1", 0), ("b1 is b2", 3), ("{b1}", 0), ("sum(b1)", 0), ("b1\x00", 2), ("\uff421", 0), ("b\uff11", 1),
        ("1e", 1), ("0x10", 1), ("1_000", 1), ("b1, b2", 2), ("and", 0), ("b1 and", 6), ("min(b1)", 0), ("sqrt b1", 0),
    ],
)  # fmt: skip
def test_nothing_else_parses(text, position):
    with pytest.raises(FormulaError) as refused:
        parse(text)
    assert refused.value.position == position
    assert f"(at character {position + 1})" in str(refused.value)


def test_a_band_that_is_not_there_is_refused():
    with pytest.raises(FormulaError, match="'b6' is band 6, and there are 5"):
        parse("b1 + b6", band_count=5)


def test_limits_hold_to_the_last_character_node_and_level():
    assert parse("1" + "+1" * 127 + " " * 700)
    assert parse("(" * (MAX_DEPTH - 1) + "b1" + ")" * (MAX_DEPTH - 1))
    assert MAX_NODES == 256
    for text in (
        "1" + "+1" * 128,
        "(" * MAX_DEPTH + "b1" + ")" * MAX_DEPTH,
        "-" * MAX_DEPTH + "b1",
        "b1**" * MAX_DEPTH + "b1",
        "not " * MAX_DEPTH + "b1",
        " " * (MAX_CHARACTERS + 1),
        "sqrt(" * MAX_DEPTH + "b1" + ")" * MAX_DEPTH,
    ):
        with pytest.raises(FormulaError):
            parse(text)


ALPHABET = [
    *"0123456789.eE+-*/<>=!(), \t\n[]{}'\"_%&|^~:;@#$\\`",
    "b1",
    "b2",
    "**",
    "and",
    "or",
    "not",
    *FUNCTIONS,
    "é",
    "\x00",
    "import",
]


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(ALPHABET), max_size=30).map("".join)))
def test_any_text_parses_or_is_refused_with_its_place(text):
    try:
        formula = parse(text)
    except FormulaError as refused:
        assert 0 <= refused.position <= max(len(text), MAX_CHARACTERS)  # noqa: PT017
    else:
        assert set(text) <= set("0123456789.eE+-*/<>=!(), \t\r\nabcdefghijklmnopqrstuvwxyz_")
        found, present = formula.evaluate(dict.fromkeys(formula.bands, B1), ALL)
        assert np.isfinite(found[present]).all()


def _pairs(inner):
    return st.tuples(inner, st.sampled_from(["+", "-", "*"]), inner).map(lambda parts: f"({' '.join(parts)})")


EXPRESSIONS = st.recursive(
    st.one_of(st.integers(0, 9).map(str), st.sampled_from(["b1", "b2"])),
    lambda inner: st.one_of(
        _pairs(inner),
        inner.map(lambda part: f"-{part}"),
        inner.map(lambda part: f"abs({part})"),
        st.tuples(inner, inner).map(lambda parts: f"max({parts[0]}, {parts[1]})"),
        st.tuples(inner, st.sampled_from(["<", ">=", "=="]), inner).map(lambda parts: f"({' '.join(parts)})"),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(EXPRESSIONS, st.integers(-5, 5), st.integers(-5, 5))
def test_formulas_of_whole_numbers_agree_with_python(text, one, other):
    expected = float(eval(text, {"__builtins__": {}, "abs": abs, "max": max, "b1": one, "b2": other}))
    if abs(expected) > 2**20:
        return
    bands = {1: np.full((1, 1), one, np.float64), 2: np.full((1, 1), other, np.float64)}
    found, present = parse(text).evaluate(bands, np.ones((1, 1), np.bool_))
    assert present.all()
    assert found[0, 0] == expected
