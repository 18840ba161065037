"""What the names of open scenes say. Pure.

Sentinel-2: ESA's product names, and the shorter ones of Earth Search. Landsat: USGS's Collection 2 product identifiers. NAIP:
USDA's quarter-quad names, with or without the state in front.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime

_DAY = r"(?P<day>\d{8})"
_TILE = r"T?(?P<tile>\d{1,2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])"
_MSI = r"(?P<mission>S2[A-D])_MSI(?P<level>L1C|L2A)"
_SENTINEL = (
    rf"{_MSI}_{_DAY}T(?P<clock>\d{{6}})(?:_N(?P<baseline>\d{{4}}))?_R(?P<orbit>\d{{3}})_{_TILE}_\d{{8}}T\d{{6}}(?:\.SAFE)?",
    rf"(?P<mission>S2[A-D])_{_TILE}_{_DAY}_\d+_(?P<level>L1C|L2A)",
    rf"(?P<mission>S2[A-D])_{_TILE}_{_DAY}T(?P<clock>\d{{6}})_(?P<level>L1C|L2A)",
)
_LANDSAT = (
    rf"L(?P<sensor>[COTEM])(?P<satellite>0[1-9])_(?P<level>L1TP|L1GT|L1GS|L2SP|L2SR)_(?P<path>\d{{3}})(?P<row>\d{{3}})_{_DAY}"
    r"(?:_(?P<processed>\d{8}))?_(?P<collection>\d{2})_(?P<tier>T1|T2|RT|A1|A2)(?:_SR|_ST)?"
)
_NAIP = (
    r"(?:(?P<state>[a-z]{2})_)?m_(?P<quad>\d{7})_(?P<quarter>[ns][ew])_(?P<zone>\d{1,2})_(?P<gsd>1|h|\d{3})"
    r"_(?P<day>\d{8})(?:_\d{8})?"
)
_LANDSAT_SENSORS = {"C": "OLI/TIRS", "O": "OLI", "T": "TIRS", "E": "ETM+", "M": "MSS"}
_TM_SATELLITES = frozenset({"04", "05"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SentinelName:
    """`datetime` is to the second where the name tells it, else midnight UTC."""

    mission: str
    product_level: str
    datetime: datetime
    tile: str
    orbit: int | None
    baseline: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LandsatName:
    sensor: str
    satellite: str
    level: str
    path: int
    row: int
    acquired: date
    processed: date | None
    collection: str
    tier: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NaipName:
    """`gsd` is in metres."""

    state: str | None
    year: int
    gsd: float
    flown: date


def sentinel_name(text: str) -> SentinelName | None:
    """Returns what a Sentinel-2 scene's name says; None for other names."""
    found = next((match for form in _SENTINEL if (match := re.fullmatch(form, text))), None)
    if found is None:
        return None
    told = found.groupdict()
    at = _moment(told["day"], told.get("clock"))
    if at is None:
        return None
    orbit, baseline = told.get("orbit"), told.get("baseline")
    return SentinelName(
        mission=f"Sentinel-{told['mission'][1:]}",
        product_level=told["level"],
        datetime=at,
        tile=told["tile"].zfill(5),
        orbit=None if orbit is None else int(orbit),
        baseline=None if baseline is None else f"{baseline[:2]}.{baseline[2:]}",
    )


def landsat_name(text: str) -> LandsatName | None:
    """Returns what a Landsat product identifier says; None for other names."""
    found = re.fullmatch(_LANDSAT, text)
    if found is None:
        return None
    acquired, processed = _day(found["day"]), _day(found["processed"])
    if acquired is None or (found["processed"] and processed is None):
        return None
    sensor = _LANDSAT_SENSORS[found["sensor"]]
    if sensor == "TIRS" and found["satellite"] in _TM_SATELLITES:
        sensor = "TM"
    return LandsatName(
        sensor=sensor,
        satellite=f"Landsat {int(found['satellite'])}",
        level=found["level"],
        path=int(found["path"]),
        row=int(found["row"]),
        acquired=acquired,
        processed=processed,
        collection=found["collection"],
        tier=found["tier"],
    )


def naip_name(text: str) -> NaipName | None:
    """Returns what a NAIP quarter quad's name says; None for other names."""
    found = re.fullmatch(_NAIP, text)
    flown = None if found is None else _day(found["day"])
    if found is None or flown is None:
        return None
    gsd = {"1": 1.0, "h": 0.5}.get(found["gsd"]) or int(found["gsd"]) / 100
    return NaipName(state=found["state"], year=flown.year, gsd=gsd, flown=flown)


def _moment(day: str, clock: str | None) -> datetime | None:
    try:
        return datetime.strptime(day + (clock or "000000"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _day(text: str | None) -> date | None:
    found = None if text is None else _moment(text, None)
    return None if found is None else found.date()
