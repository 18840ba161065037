"""The sources that a new deployment begins with; an operator changes them with catalog.admin.source_save."""

from __future__ import annotations

from typing import Any

from geopera_server.db.pool import Connection
from geopera_server.domains.catalog import store
from geopera_server.domains.catalog.sources import Source
from geopera_server.values.clock import now

EARTH_SEARCH = "https://earth-search.aws.element84.com/v1"


def _open_collection(collection_id: str, title: str, data_type: str, gsd: float, **render_params: Any) -> dict[str, Any]:
    return {
        "id": collection_id,
        "title": title,
        "data_type": data_type,
        "gsd": gsd,
        "render_strategy": "cog",
        "render_params": render_params,
        "access_model": "open",
    }


def _sold_collection(collection_id: str, title: str, gsd: float) -> dict[str, Any]:
    return {
        "id": collection_id,
        "title": title,
        "data_type": "optical",
        "gsd": gsd,
        "render_strategy": "preview",
        "render_params": {},
        "access_model": "commercial",
    }


EARTHSEARCH = Source(
    id="earthsearch-aws",
    title="Earth Search on AWS",
    description="Open data of Copernicus, USGS and USDA, searched at Element 84's public STAC API.",
    access_model="open",
    scope="global",
    countries=(),
    attribution="Contains modified Copernicus Sentinel data; USGS; USDA; DLR and Airbus (Copernicus DEM)",
    license="Each collection's own open terms",
    vendor="earthsearch-aws",
    collections=(
        _open_collection("sentinel-2-l2a", "Sentinel-2 Level-2A", "optical", 10.0, assets=["red", "green", "blue"]),
        _open_collection("sentinel-2-c1-l2a", "Sentinel-2 Collection 1 Level-2A", "optical", 10.0, assets=["visual"]),
        _open_collection(
            "sentinel-2-pre-c1-l2a", "Sentinel-2 Level-2A before Collection 1", "optical", 10.0, assets=["visual"]
        ),
        _open_collection("sentinel-2-l1c", "Sentinel-2 Level-1C", "optical", 10.0, assets=["red", "green", "blue"]),
        _open_collection("sentinel-1-grd", "Sentinel-1 Ground Range Detected", "sar", 10.0, assets=["vv"]),
        _open_collection("landsat-c2-l2", "Landsat Collection 2 Level-2", "optical", 30.0, assets=["red", "green", "blue"]),
        _open_collection("naip", "National Agriculture Imagery Program", "optical", 1.0, assets=["image"]),
        _open_collection("cop-dem-glo-30", "Copernicus DEM GLO-30", "elevation", 30.0, assets=["data"]),
        _open_collection("cop-dem-glo-90", "Copernicus DEM GLO-90", "elevation", 90.0, assets=["data"]),
    ),
    connector={"kind": "stac", "url": EARTH_SEARCH},
    coverage=None,
)

_SELLERS = {
    "twentyoneat": ("21AT", (0.5, 0.75)),
    "cgstl": ("Chang Guang Satellite", (0.5, 0.75)),
    "siis": ("SI Imaging Services", (0.5,)),
    "spacewill": ("Spacewill", (0.5,)),
    "improsat": ("Impro Satellite", (0.5,)),
    "vantor": ("Vantor", (0.3, 0.5)),
}


def _seller(host: str, title: str, gsds: tuple[float, ...]) -> Source:
    return Source(
        id=host,
        title=title,
        description=f"Archive scenes of {title}; found once an operator has imported them.",
        access_model="commercial",
        scope="global",
        countries=(),
        attribution=title,
        license="Commercial licence of the vendor",
        vendor=host,
        collections=[_sold_collection(f"{host}-{gsd * 100:g}cm", f"{title} {gsd * 100:g} cm", gsd) for gsd in gsds],
        connector={"kind": "index"},
        coverage=None,
    )


SOURCES = (EARTHSEARCH, *(_seller(host, *told) for host, told in _SELLERS.items()))


async def seed_sources(conn: Connection) -> None:
    """Adds the sources that are not there yet; what an operator has changed stays."""
    for source in SOURCES:
        await store.add_source(conn, source, now())
