"""Tells by the lengths that a Shapefile names whether all of it is there."""

from __future__ import annotations

import struct

from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.references import check_wkt, sidecar_text
from geopera_server.raster.ingest.refusals import Damaged

_HEADER_BYTES = 100


def check_shapefile(parts: Parts) -> None:
    """Raises Damaged for a part that ends early, and OutsideReference for a .prj that wants other files."""
    for path in (parts.path, parts.sidecars[".shx"]):
        with path.open("rb") as file:
            head = file.read(_HEADER_BYTES)
        if len(head) < _HEADER_BYTES or struct.unpack_from(">I", head, 24)[0] * 2 > path.stat().st_size:
            raise Damaged(f"{parts.name} is truncated: its {path.suffix} file ends early. Pack and send it again.")
    table = parts.sidecars[".dbf"]
    with table.open("rb") as file:
        head = file.read(32)
    if len(head) < 32:
        raise Damaged(f"{parts.name} is truncated: its .dbf file ends early. Pack and send it again.")
    rows, header_bytes, row_bytes = struct.unpack_from("<IHH", head, 4)
    if header_bytes + rows * row_bytes > table.stat().st_size:
        raise Damaged(f"{parts.name} is truncated: its .dbf file ends early. Pack and send it again.")
    if ".prj" in parts.sidecars:
        check_wkt(parts.name, sidecar_text(f"{parts.name}'s .prj", parts.sidecars[".prj"]).decode("utf-8", errors="replace"))
