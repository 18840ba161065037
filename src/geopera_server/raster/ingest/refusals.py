"""Why an upload is not taken in. The texts are for the customer: they name uploaded files, never a folder of the server.

IngestRefused             `code` for programs, `reason` for people
├── UnsupportedFormat     no format that is taken in, e.g. a VRT renamed to .tif or an empty file
├── NoGeoreference        pixels or features without a place on Earth
├── NeedsRectification    only ground control points or RPCs tell the place
├── Damaged               truncated or broken: the bytes do not hold what the header says
├── Ambiguous             several rasters, variables or files where one is needed
├── TooDemanding          declares or needs more pixels, bands, bytes, memory or time than allowed (bombs end here)
├── UnsafeArchive         path tricks, links, encryption or archives in archives
└── OutsideReference      asks to read another file, database or address
"""

from __future__ import annotations

from geopera_server.raster.errors import RasterError


class IngestRefused(RasterError):
    """An upload that is not taken in; sending the same bytes again would end the same way."""

    code = "upload_refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class UnsupportedFormat(IngestRefused):
    """The bytes are of no format that is taken in, whatever the name says."""

    code = "unsupported_format"


class NoGeoreference(IngestRefused):
    """Nothing in the upload says where on Earth it lies."""

    code = "no_georeference"


class NeedsRectification(IngestRefused):
    """The place is known through control points or a camera model alone."""

    code = "needs_rectification"


class Damaged(IngestRefused):
    """The file ends early or cannot be decoded."""

    code = "damaged_file"


class Ambiguous(IngestRefused):
    """There are several things to choose from."""

    code = "ambiguous_content"


class TooDemanding(IngestRefused):
    """The file unfolds into more than may be spent on it."""

    code = "too_demanding"


class UnsafeArchive(IngestRefused):
    """The archive does more than hold files side by side."""

    code = "unsafe_archive"


class OutsideReference(IngestRefused):
    """The file points to something outside itself, which is never followed."""

    code = "outside_reference"


KINDS: dict[str, type[IngestRefused]] = {
    kind.code: kind
    for kind in (
        UnsupportedFormat,
        NoGeoreference,
        NeedsRectification,
        Damaged,
        Ambiguous,
        TooDemanding,
        UnsafeArchive,
        OutsideReference,
    )
}
