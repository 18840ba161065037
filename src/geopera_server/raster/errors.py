"""Everything raster work may end with. The texts may be shown to a customer: they name no credential and no folder.

RasterError
├── SourceError             about one source file; `href` is the address without credentials and query
│   ├── SourceUnreachable   time-out, refused connection, HTTP 5xx or 429: worth a retry later
│   └── SourceUnreadable    missing, damaged or no raster: a retry would end the same way
│       ├── SourceRefused   an address this server does not read at all
│       ├── SourceMissing   there is nothing at that address
│       └── NotGeoreferenced  pixels without a place on Earth
├── AoiError
│   ├── InvalidAoi          not a polygon that can be laid over this raster
│   └── NoOverlap           the AOI and the raster have no pixel in common
├── NoValidPixels           the place asked for has no pixel with a value
├── Unrenderable            the picture asked for cannot be made of this raster, whatever its pixels
│   ├── FormulaError        the formula does not parse; `position` counts characters from 0
│   └── ColormapUnknown     no colour map has that name
├── TooLarge                more pixels than one call writes, or blocks too big to decode
├── WriteFailed             the result could not be written; `errno` tells why, e.g. ENOSPC
└── Stopped                 `should_stop` asked for it
"""

from __future__ import annotations

import errno as errno_names
import os
from pathlib import PurePath
from urllib.parse import urlsplit


def shown_href(href: str) -> str:
    """The address without user, password, query and fragment; of a local file only its name."""
    if "://" not in href or href.lower().startswith("file:"):
        return PurePath(urlsplit(href).path if "://" in href else href).name or "the file"
    parts = urlsplit(href)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class RasterError(Exception):
    """Raster work that did not come to its end."""


class SourceError(RasterError):
    """A source file that gave no pixels, with the reason in words a customer may read."""

    def __init__(self, href: str, reason: str) -> None:
        self.href = shown_href(href)
        self.reason = reason
        super().__init__(f"{self.href} {reason}.")


class SourceUnreachable(SourceError):
    """The server of the source does not answer now; the same call may succeed later."""


class SourceUnreadable(SourceError):
    """The source is not there, is damaged or is no raster; trying again does not help."""


class SourceRefused(SourceUnreadable):
    """The address is of a kind that is never opened."""


class SourceMissing(SourceUnreadable):
    """There is nothing at that address."""


class NotGeoreferenced(SourceUnreadable):
    """The raster has no coordinate reference system or no affine transform."""


class AoiError(RasterError):
    """An AOI that cannot be cut out of this raster."""


class InvalidAoi(AoiError):
    """The AOI is not a polygon that has a place in the raster's reference system."""


class NoOverlap(AoiError):
    """The AOI has no pixel of the raster in it."""

    def __init__(self, href: str) -> None:
        super().__init__(f"The AOI has no pixel of {shown_href(href)} in it; order a scene whose footprint meets it.")


class NoValidPixels(RasterError):
    """Where figures were asked for, the raster has no valid pixel."""

    def __init__(self, href: str) -> None:
        super().__init__(f"There is no valid pixel of {shown_href(href)} in that area; choose one within its footprint.")


class Unrenderable(RasterError):
    """What was asked for and what the raster holds do not go together; the text says what would."""


class FormulaError(Unrenderable):
    """A formula that does not parse; `position` is the place in it, counted in characters from 0."""

    def __init__(self, reason: str, position: int) -> None:
        self.reason = reason
        self.position = position
        super().__init__(f"{reason} (at character {position + 1}).")


class ColormapUnknown(Unrenderable):
    """No colour map has that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no colormap {name!r}; cog.colormaps lists them, and _r after a name reverses it.")


class TooLarge(RasterError):
    """The result, or one block of the source, is larger than a worker takes on."""


class WriteFailed(RasterError):
    """The result could not be written; nothing of it is left behind."""

    def __init__(self, reason: str, errno: int = errno_names.EIO) -> None:
        self.errno = errno
        super().__init__(f"The result could not be written: {reason}.")

    @classmethod
    def of(cls, error: OSError) -> WriteFailed:
        code = error.errno or errno_names.EIO
        return cls(os.strerror(code), code)


class Stopped(RasterError):
    """The caller asked for the work to stop; nothing of it is left behind."""

    def __init__(self) -> None:
        super().__init__("The work was stopped before it was done.")
