"""What is said of sources and vendors, and what may be saved of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from geopera_server.domains.catalog.shapes import SourceSaveInput, Vendor
from geopera_server.domains.catalog.sources import DATA_TYPES, OPEN, Source, means_all
from geopera_server.domains.pricing.rules import ANY_RESOLUTION, PriceBook
from geopera_server.kernel.errors import InvalidInput
from geopera_server.kernel.geometry import read_geometry, to_geojson

_NOTHING_YET: dict[str, Any] = {
    "description": "",
    "access_model": "commercial",
    "scope": "global",
    "countries": [],
    "attribution": "",
    "license": "",
    "collections": [],
    "connector": {"kind": "index"},
    "coverage": None,
    "active": True,
}


def narrowed(sources: Iterable[Source], *, scope: str | None, country: str | None, data_type: str | None) -> list[Source]:
    """Returns the sources that fit every filter given; a word nobody uses fits none."""
    return [
        source
        for source in sources
        if scope in {None, source.scope}
        and (country is None or country.upper() in source.countries)
        and (data_type is None or any(each["data_type"] == data_type for each in source.collections))
    ]


def vendors(sources: Sequence[Source], kinds: Sequence[Mapping[str, Any]], book: PriceBook) -> list[Vendor]:
    """Returns every vendor of the sources and of the scenes imported for them, by name."""
    hosts: dict[str, list[Source]] = {}
    by_id = {source.id: source for source in sources}
    for source in sources:
        hosts.setdefault(source.vendor, []).append(source)
    for kind in kinds:
        known = hosts.setdefault(kind["vendor"], []) if kind["host"] in by_id else []
        if kind["host"] in by_id and by_id[kind["host"]] not in known:
            known.append(by_id[kind["host"]])
    found = [_vendor(vendor, at, [kind for kind in kinds if kind["vendor"] == vendor], book) for vendor, at in hosts.items()]
    return sorted(found, key=lambda vendor: (vendor["name"].lower(), vendor["id"]))


def _vendor(vendor: str, hosts: Sequence[Source], kinds: Sequence[Mapping[str, Any]], book: PriceBook) -> Vendor:
    own = [source for source in hosts if source.vendor == vendor]
    rules = [rule for rule in book.rules if rule.vendor == vendor]
    collections = {each["id"] for source in own for each in source.collections} | {kind["collection"] for kind in kinds}
    labels = {rule.resolution for rule in rules} | {kind["resolution"] for kind in kinds}
    is_open = any(source.access_model == OPEN for source in own)
    return {
        "id": vendor,
        "name": own[0].title if own else vendor,
        "hosts": sorted(source.id for source in hosts),
        "pricing_vendor": vendor,
        "collections": sorted(collections),
        "resolutions": sorted(labels - {"", ANY_RESOLUTION}, key=lambda label: (len(label), label)),
        "capture_types": sorted({rule.capture_type for rule in rules} | ({"archive"} if is_open else set())),
        "orderable": is_open or bool(rules),
    }


def saved(present: Source | None, given: SourceSaveInput, *, base_url: str) -> Source:
    """Returns the source as it is to be stored: what is given over what is there.

    Raises InvalidInput for names that mean all sources, connectors without an address and places that are none.
    """
    if means_all(given.id, base_url):
        raise InvalidInput(f"{given.id!r} means all sources. Choose another id.", loc=("id",))
    sent = given.model_dump(exclude_unset=True)
    sent = {name: value for name, value in sent.items() if value is not None or name == "coverage"}
    if "countries" in sent:
        sent["countries"] = sorted({country.upper() for country in sent["countries"]})
    if "collections" in sent:
        sent["collections"] = [each.model_dump() for each in given.collections or []]
        _check_collections(sent["collections"])
    if "connector" in sent:
        sent["connector"] = _connector(sent["connector"])
    if sent.get("coverage") is not None:
        sent["coverage"] = to_geojson(read_geometry(sent["coverage"], loc=("coverage",)))
    before = {**_NOTHING_YET, "title": given.id, "vendor": given.id} if present is None else _fields(present)
    return Source(**{**before, **sent})


def _fields(source: Source) -> dict[str, Any]:
    return {name: getattr(source, name) for name in Source.__dataclass_fields__}


def _connector(sent: Mapping[str, Any]) -> dict[str, Any]:
    if sent["kind"] == "stac" and not sent.get("url"):
        raise InvalidInput("A STAC connector needs the url of the API's landing page.", loc=("connector", "url"))
    return {name: value for name, value in sent.items() if value is not None}


def _check_collections(collections: Sequence[Mapping[str, Any]]) -> None:
    seen: set[str] = set()
    for position, collection in enumerate(collections):
        if collection["id"] in seen:
            raise InvalidInput(f"The collection {collection['id']!r} comes twice.", loc=("collections", position, "id"))
        if collection["data_type"] not in DATA_TYPES:
            raise InvalidInput(
                f"{collection['data_type']!r} is none of {', '.join(DATA_TYPES)}.",
                loc=("collections", position, "data_type"),
                code="unknown_field_value",
            )
        if collection["access_model"] not in {OPEN, "commercial"}:
            raise InvalidInput(
                "access_model is open or commercial.", loc=("collections", position, "access_model"), code="unknown_field_value"
            )
        seen.add(collection["id"])
