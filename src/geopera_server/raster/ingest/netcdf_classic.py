"""Tells whether a classic NetCDF file (CDF-1, CDF-2, CDF-5) has all its data: the library reads zeros where it ends early."""

from __future__ import annotations

import math
import struct
from typing import IO

_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_MAX_ENTRIES = 100_000


def is_complete(file: IO[bytes], size: int) -> bool:
    """Whether the file reaches as far as its header says; raises ValueError or struct.error for a header that is none."""
    header = _Header(file)
    records = header.number()
    lengths = header.dimensions()
    header.attributes()
    fixed_ends, recorded = [], []
    for shape_at, type_bytes, begin in header.variables():
        shape = [lengths[place] for place in shape_at]
        if shape and shape[0] == 0:
            recorded.append((begin, math.prod(shape[1:]) * type_bytes))
        else:
            fixed_ends.append(begin + math.prod(shape) * type_bytes)
    # A single record variable is stored without padding.
    step = recorded[0][1] if len(recorded) == 1 else sum(-(-part // 4) * 4 for _, part in recorded)
    streamed = records in (2**32 - 1, 2**64 - 1)
    last = [begin + (records - 1) * step + part for begin, part in recorded if records > 0 and not streamed]
    return max([0, *fixed_ends, *last]) <= size


class _Header:
    """The header, read from front to back."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.version = file.read(4)[3]

    def number(self) -> int:
        """A count or length: 8 bytes in CDF-5, else 4."""
        return self._unpacked(">Q" if self.version == 5 else ">I")

    def dimensions(self) -> list[int]:
        """The length of each dimension, 0 for the one that records are added along."""
        lengths = []
        for _ in range(self._entries(_DIMENSIONS)):
            self._skip(self.number())
            lengths.append(self.number())
        return lengths

    def attributes(self) -> None:
        for _ in range(self._entries(_ATTRIBUTES)):
            self._skip(self.number())
            type_bytes = _TYPE_BYTES.get(self._unpacked(">I"))
            if type_bytes is None:
                raise ValueError("type")
            self._skip(self.number() * type_bytes)

    def variables(self) -> list[tuple[list[int], int, int]]:
        """(dimensions by place, bytes of a value, where the data begins) of each variable."""
        found = []
        for _ in range(self._entries(_VARIABLES)):
            self._skip(self.number())
            shape_at = [self.number() for _ in range(self._bounded(self.number()))]
            self.attributes()
            type_bytes = _TYPE_BYTES.get(self._unpacked(">I"), 0)
            self.number()
            found.append((shape_at, type_bytes, self._unpacked(">I" if self.version == 1 else ">Q")))
        return found

    def _entries(self, expected: int) -> int:
        tag, count = self._unpacked(">I"), self.number()
        if tag not in (0, expected):
            raise ValueError("tag")
        return self._bounded(count)

    def _bounded(self, count: int) -> int:
        if count > _MAX_ENTRIES:
            raise ValueError("count")
        return count

    def _skip(self, length: int) -> None:
        self.file.seek(-(-length // 4) * 4, 1)

    def _unpacked(self, form: str) -> int:
        (value,) = struct.unpack(form, self.file.read(struct.calcsize(form)))
        return int(value)
