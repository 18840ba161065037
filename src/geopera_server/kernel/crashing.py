"""Named points at which a test can have the process killed, to see that nothing is lost or done twice.

The composition root arms at most one point, and never in production. An armed point kills the process as `kill -9` would.
"""

from __future__ import annotations

import os
import signal

# In the order they are passed: from an order placed to its delivery, and from the wish to charge a card to its credits.
DELIVERY_POINTS = (
    "job-claimed", "clip-written", "object-stored", "delivery-before-commit", "delivery-committed", "place-before-commit",
    "call-committed",
)  # fmt: skip
CHARGE_POINTS = (
    "charge-opened", "intent-made", "intent-kept", "charge-made", "charge-recorded", "grant-before-commit",
)  # fmt: skip
MONTH_POINTS = ("month-computed", "month-before-commit")
# From the first byte of a file to the end of the work on its item.
UPLOAD_POINTS = (
    "upload-begun", "upload-in-put", "upload-part-stored", "upload-put-stored", "upload-put-committed", "upload-examined",
    "upload-complete-before-commit", "upload-processing", "upload-converted", "upload-result-stored",
    "upload-result-before-commit", "upload-result-committed", "upload-finish-before-commit", "upload-finished",
)  # fmt: skip
COPY_POINTS = ("copy-begun", "copy-stored", "copies-stored", "copy-before-commit")
POINTS = (*DELIVERY_POINTS, *CHARGE_POINTS, *MONTH_POINTS, *UPLOAD_POINTS, *COPY_POINTS)

_armed: str | None = None


def arm(point: str | None) -> None:
    """Arms one point; None disarms. Raises ValueError for a name that is none."""
    global _armed  # noqa: PLW0603  (one process, one armed point)
    if point is not None and point not in POINTS:
        raise ValueError(f"there is no crash point {point!r}; there are {', '.join(POINTS)}")
    _armed = point


def crash_point(name: str) -> None:
    """Kills the process when this point is armed."""
    if name == _armed:
        os.kill(os.getpid(), signal.SIGKILL)
