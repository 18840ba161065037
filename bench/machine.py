"""Says on what machine and when a figure was taken."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime


def described() -> str:
    """Returns processor, cores, memory, Python and date in one line."""
    with open("/proc/cpuinfo", encoding="ascii") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    processor = names[0] if names else platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, {gib:.0f} GiB, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}"
    )
