"""How much one upload may unfold into, and what the process that reads it may spend."""

from __future__ import annotations

from dataclasses import dataclass

MEGABYTE = 1_000_000
GIGABYTE = 1000 * MEGABYTE


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bounds of one upload.

    `max_raw_bytes` bounds width x height x bands x bytes per value. Below `free_raw_bytes` any ratio of raw bytes to
    file bytes is allowed, above it `max_ratio` holds: deflate reaches 1,032 at most, real rasters seldom pass 50.
    `memory_bytes` is address space; `inspect_s` and `convert_s` are seconds on the clock.
    """

    max_raw_bytes: int = 64 * GIGABYTE
    max_bands: int = 2_000
    max_block_bytes: int = 512 * MEGABYTE
    free_raw_bytes: int = 1 * GIGABYTE
    max_ratio: int = 300
    max_entries: int = 1_000
    max_unpacked_bytes: int = 64 * GIGABYTE
    max_entry_ratio: int = 300
    max_features: int = 50_000_000
    memory_bytes: int = 4 * GIGABYTE
    inspect_s: float = 120.0
    convert_s: float = 3600.0


DEFAULT_LIMITS = Limits()
