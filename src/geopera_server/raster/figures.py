"""Figures of rasters as they are told; without anything that takes long to load."""

from __future__ import annotations

from typing_extensions import TypedDict


class Histogram(TypedDict):
    """How many values lie between each two edges; one edge more than counts."""

    counts: list[int]
    edges: list[float]


class RasterStats(TypedDict):
    """Figures over valid pixels; `std` is of the population, `percentiles` are keyed by percent as written in decimals."""

    min: float
    max: float
    mean: float
    median: float
    std: float
    sum: float
    p2: float
    p98: float
    percentiles: dict[str, float]
    valid_pixels: int
    nodata_pixels: int
    valid_percent: float
    histogram: Histogram
