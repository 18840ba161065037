"""Exact statistics of a band, gathered piece by piece while its pixels pass by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict

# Pieces of a million were measured 2.5 times as fast as 20 million pixels at once, and bound the float64 copy to 8 MB.
PIECE_PIXELS = 1 << 20


class BandStatistics(TypedDict):
    """Over the valid pixels of one band; all None when no pixel is valid. Of complex values, the magnitude."""

    min: float | None
    max: float | None
    mean: float | None
    stddev: float | None
    valid_percent: float


@dataclass
class RunningStatistics:
    """Count, extremes, mean and sum of squared deviations so far; pieces are merged by Chan, Golub and LeVeque (1979)."""

    count: int = 0
    low: Any = None
    high: Any = None
    mean: float = 0.0
    squares: float = 0.0

    def add(self, values: npt.NDArray[Any]) -> None:
        """Adds valid pixel values (one dimension); NaN and infinities are not counted."""
        if values.dtype.kind == "c":
            values = np.abs(values)
        if values.dtype.kind == "f":
            finite = np.isfinite(values)
            values = values if finite.all() else values[finite]
        if values.size == 0:
            return
        low, high = values.min(), values.max()
        self.low = low if self.low is None else min(self.low, low)
        self.high = high if self.high is None else max(self.high, high)
        for start in range(0, values.size, PIECE_PIXELS):
            self._merge(values[start : start + PIECE_PIXELS].astype(np.float64))

    def _merge(self, piece: npt.NDArray[np.float64]) -> None:
        mean = float(piece.mean())
        piece -= mean
        count = self.count + piece.size
        delta = mean - self.mean
        self.squares += float(piece @ piece) + delta * delta * self.count * piece.size / count
        self.mean += delta * piece.size / count
        self.count = count

    def result(self, total_pixels: int) -> BandStatistics:
        """The statistics, with the standard deviation of the population as GDAL writes it."""
        if self.count == 0:
            return BandStatistics(min=None, max=None, mean=None, stddev=None, valid_percent=0.0)
        return BandStatistics(
            min=self.low.item(),
            max=self.high.item(),
            mean=self.mean,
            stddev=math.sqrt(self.squares / self.count),
            valid_percent=100.0 * self.count / total_pixels,
        )


def statistics_tags(statistics: BandStatistics) -> dict[str, str]:
    """The metadata under which GDAL and its readers look for a band's statistics."""
    if statistics["min"] is None:
        return {"STATISTICS_VALID_PERCENT": "0"}
    return {
        "STATISTICS_MINIMUM": repr(statistics["min"]),
        "STATISTICS_MAXIMUM": repr(statistics["max"]),
        "STATISTICS_MEAN": repr(statistics["mean"]),
        "STATISTICS_STDDEV": repr(statistics["stddev"]),
        "STATISTICS_VALID_PERCENT": f"{statistics['valid_percent']:.4g}",
    }
