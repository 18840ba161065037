"""Which variable of a NetCDF file is the raster, and what its bands are."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.refusals import Ambiguous, NoGeoreference, TooDemanding
from geopera_server.raster.source import GDAL_ERRORS

MAX_VARIABLES = 200

_UNITS = re.compile(
    r"(second|minute|hour|day)s?\s+since\s+(\d{1,4}-\d{1,2}-\d{1,2})(?:[T ](\d{1,2}:\d{2}(?::\d{2})?))?", re.IGNORECASE
)
_REAL_CALENDARS = ("standard", "gregorian", "proleptic_gregorian", "")


@dataclass(frozen=True)
class Variable:
    """A variable; `address` is None when the file opens as this variable by itself."""

    name: str | None
    address: str | None


def chosen(dataset: Any, parts: Parts, wanted: str | None, opened: Callable[[Path | str, str], Any]) -> Variable:
    """The wanted variable, or the only one that lies on a map; raises Ambiguous or NoGeoreference."""
    if not dataset.subdatasets:
        if dataset.count == 0:
            raise NoGeoreference(f"{parts.name} holds no variable over two axes that lie on a map.")
        return Variable(dataset.tags(1).get("NETCDF_VARNAME"), None)
    names = [address.rpartition(":")[2] for address in dataset.subdatasets]
    if len(names) > MAX_VARIABLES:
        raise TooDemanding(f"{parts.name} holds {len(names)} variables; send those you need in a file of their own.")
    if wanted is not None:
        if wanted not in names:
            raise Ambiguous(f"{parts.name} has no variable {wanted!r}; it has {_listed(names)}.")
        return _variable(parts, wanted)
    mapped = [name for name in names if _is_mapped(_variable(parts, name), opened)]
    if not mapped:
        raise NoGeoreference(f"No variable of {parts.name} lies on a regular map grid; project it first, and send a GeoTIFF.")
    if len(mapped) > 1:
        raise Ambiguous(f"{parts.name} holds {len(mapped)} variables ({_listed(mapped)}); name one, or send each by itself.")
    return _variable(parts, mapped[0])


def _variable(parts: Parts, name: str) -> Variable:
    return Variable(name, f'NETCDF:"{parts.path}":{name}')


def _is_mapped(variable: Variable, opened: Callable[[Path | str, str], Any]) -> bool:
    # Tables of bounds and the like are variables too, and some of them GDAL does not open.
    with suppress(*GDAL_ERRORS), opened(str(variable.address), "netCDF") as dataset:
        return not dataset.transform.is_identity and dataset.width > 1 and dataset.height > 1
    return False


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def times(dataset: Any) -> list[datetime] | None:
    """The moment of each band, when time is the only axis beside the two of the map and its calendar is the real one."""
    tags = dataset.tags()
    axes = tags.get("NETCDF_DIM_EXTRA", "").strip("{}").split(",")
    if len(axes) != 1 or not axes[0]:
        return None
    axis = axes[0]
    found = _UNITS.match(tags.get(f"{axis}#units", ""))
    if found is None or tags.get(f"{axis}#calendar", "").lower() not in _REAL_CALENDARS:
        return None
    values = [dataset.tags(number).get(f"NETCDF_DIM_{axis}") for number in dataset.indexes]
    try:
        since = datetime.fromisoformat(f"{_padded(found[2])}T{(found[3] or '00:00').zfill(5)}").replace(tzinfo=UTC)
        return [since + timedelta(**{f"{found[1].lower()}s": float(value)}) for value in values if value is not None]
    except (ValueError, OverflowError):
        return None


def _padded(date: str) -> str:
    year, month, day = date.split("-")
    return f"{year:0>4}-{month:0>2}-{day:0>2}"
