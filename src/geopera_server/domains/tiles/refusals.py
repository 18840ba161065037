"""What a caller is told when a picture could not be made."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from geopera_server.kernel.errors import InvalidInput, NotFound, OperationError, Unavailable
from geopera_server.ports.renders import Busy, Renders

T = TypeVar("T")


def refusal_of(error: Exception, *, loc: tuple[str | int, ...]) -> OperationError | None:
    """Returns the refusal that an error of raster work stands for; None for a defect of ours."""
    # What opens rasters takes long to load, and no start waits for it.
    from geopera_server.raster import errors  # noqa: PLC0415

    if isinstance(error, Busy):
        return Unavailable(
            "More pictures are asked for than can be made. Try again in a moment.", code="worker_unavailable", retry_after_s=1
        )
    text = str(error)
    refusals: tuple[tuple[type[Exception], Callable[[], OperationError]], ...] = (
        (errors.SourceUnreachable, lambda: Unavailable(text, retry_after_s=5)),
        (errors.SourceRefused, lambda: InvalidInput(text, loc=loc, code="url_not_allowed")),
        (errors.SourceMissing, lambda: NotFound(detail=text)),
        (errors.NoValidPixels, lambda: InvalidInput(text, loc=("geometry",), code="no_valid_pixels")),
        (errors.NoOverlap, lambda: InvalidInput(text, loc=("geometry",), code="no_valid_pixels")),
        (errors.RasterError, lambda: InvalidInput(text, loc=loc)),
    )
    return next((refused() for kind, refused in refusals if isinstance(error, kind)), None)


async def done(renders: Renders, work: Callable[[], T], *, loc: tuple[str | int, ...], host: str | None = None) -> T:
    """Returns what raster work returns, of a file at a host elsewhere; raises OperationError for what a caller can be told."""
    try:
        return await renders.run(work, host=host)
    except Exception as error:
        refusal = refusal_of(error, loc=loc)
        if refusal is None:
            raise
        raise refusal from error
