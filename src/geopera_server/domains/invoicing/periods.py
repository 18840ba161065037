"""Reads the month that a bill is for."""

from __future__ import annotations

import re

from geopera_server.kernel.errors import InvalidInput
from geopera_server.values.periods import Period

_FORM = re.compile(r"(2[0-9]{3})-(0[1-9]|1[0-2])")


def read_period(text: str, *, loc: str = "period") -> Period:
    """Returns the month that a text names; raises InvalidInput for anything but `YYYY-MM` from 2000-01 on."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidInput("A period is a month as YYYY-MM, such as 2026-03.", loc=(loc,))
    return Period(int(match[1]), int(match[2]))
