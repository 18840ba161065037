"""WMTS 1.0.0 (OGC 07-057r7): the capabilities of one item's tiles, and exceptions, as XML. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

MATRIX_SET = "GoogleMapsCompatible"
TILE_PX = 256
WKSS = "urn:ogc:def:wkss:OGC:1.0:GoogleMapsCompatible"
EPSG_3857 = "urn:ogc:def:crs:EPSG::3857"
HALF_WORLD_M = 20037508.342789244
MAX_LATITUDE = 85.05112877980659
# OGC 07-057r7, 6.1: a pixel of the standardized rendering is 0.28 mm wide.
_SCALE_OF_METRE = 1 / 0.00028
FORMATS = ("image/png", "image/webp", "image/jpeg")
_EXTENSIONS = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpeg"}

_HEAD = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<Capabilities xmlns="http://www.opengis.net/wmts/1.0" xmlns:ows="http://www.opengis.net/ows/1.1"'
    ' xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"'
    ' xsi:schemaLocation="http://www.opengis.net/wmts/1.0'
    ' http://schemas.opengis.net/wmts/1.0/wmtsGetCapabilities_response.xsd" version="1.0.0">'
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One picture of the item; `id` is the profile's or visualization's."""

    id: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """All that the capabilities say; `address` answers WMTS for exactly this item, with the key in its path."""

    title: str
    abstract: str
    address: str
    layers: Sequence[Layer]
    bounds: tuple[float, float, float, float]
    minzoom: int
    maxzoom: int


def capabilities(service: Service) -> str:
    """Returns the capabilities document."""
    layers = "".join(_layer(service, layer) for layer in service.layers)
    matrices = "".join(_matrix(zoom) for zoom in range(service.maxzoom + 1))
    return (
        f"{_HEAD}<ows:ServiceIdentification><ows:Title>{escape(service.title)}</ows:Title>"
        f"<ows:Abstract>{escape(service.abstract)}</ows:Abstract>"
        "<ows:ServiceType>OGC WMTS</ows:ServiceType><ows:ServiceTypeVersion>1.0.0</ows:ServiceTypeVersion>"
        "</ows:ServiceIdentification>"
        f"<ows:OperationsMetadata>{_operation('GetCapabilities', service)}{_operation('GetTile', service)}"
        "</ows:OperationsMetadata>"
        f"<Contents>{layers}<TileMatrixSet><ows:Identifier>{MATRIX_SET}</ows:Identifier>"
        f"<ows:SupportedCRS>{EPSG_3857}</ows:SupportedCRS><WellKnownScaleSet>{WKSS}</WellKnownScaleSet>{matrices}"
        "</TileMatrixSet></Contents>"
        f"<ServiceMetadataURL xlink:href={quoteattr(service.address + '?SERVICE=WMTS&REQUEST=GetCapabilities')}/>"
        "</Capabilities>\n"
    )


def service_address(base_url: str, item_id: str, key: str) -> str:
    """Returns where WMTS of an item is answered, with the key as part of the path."""
    return f"{base_url}/api/v1/items/{item_id}/wmts/k/{quote(key, safe='')}"


def exception(code: str, text: str, locator: str | None = None) -> str:
    """Returns an OGC exception report (OWS Common 1.1.0)."""
    where = "" if locator is None else f" locator={quoteattr(locator)}"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<ExceptionReport xmlns="http://www.opengis.net/ows/1.1" version="1.1.0" xml:lang="en">'
        f'<Exception exceptionCode="{code}"{where}><ExceptionText>{escape(text)}</ExceptionText></Exception>'
        "</ExceptionReport>\n"
    )


def _operation(name: str, service: Service) -> str:
    return (
        f'<ows:Operation name="{name}"><ows:DCP><ows:HTTP><ows:Get xlink:href={quoteattr(service.address + "?")}>'
        '<ows:Constraint name="GetEncoding"><ows:AllowedValues><ows:Value>KVP</ows:Value></ows:AllowedValues>'
        "</ows:Constraint></ows:Get></ows:HTTP></ows:DCP></ows:Operation>"
    )


def _layer(service: Service, layer: Layer) -> str:
    west, south, east, north = service.bounds
    if west > east:
        west, east = -180.0, 180.0
    formats = "".join(f"<Format>{each}</Format>" for each in FORMATS)
    resources = "".join(_resource(service, layer, each) for each in FORMATS)
    limits = "".join(_limits((west, south, east, north), zoom) for zoom in range(service.minzoom, service.maxzoom + 1))
    return (
        f"<Layer><ows:Title>{escape(layer.title)}</ows:Title>"
        f"<ows:WGS84BoundingBox><ows:LowerCorner>{west!r} {south!r}</ows:LowerCorner>"
        f"<ows:UpperCorner>{east!r} {north!r}</ows:UpperCorner></ows:WGS84BoundingBox>"
        f"<ows:Identifier>{escape(layer.id)}</ows:Identifier>"
        '<Style isDefault="true"><ows:Identifier>default</ows:Identifier></Style>'
        f"{formats}<TileMatrixSetLink><TileMatrixSet>{MATRIX_SET}</TileMatrixSet>"
        f"<TileMatrixSetLimits>{limits}</TileMatrixSetLimits></TileMatrixSetLink>{resources}</Layer>"
    )


def _resource(service: Service, layer: Layer, media_type: str) -> str:
    path = f"{quote(layer.id, safe='')}/{{TileMatrixSet}}/{{TileMatrix}}/{{TileRow}}/{{TileCol}}.{_EXTENSIONS[media_type]}"
    template = quoteattr(f"{service.address}/{path}")
    return f'<ResourceURL format="{media_type}" resourceType="tile" template={template}/>'


def _limits(bounds: tuple[float, float, float, float], zoom: int) -> str:
    west, south, east, north = bounds
    first_column, first_row = tile_at(west, north, zoom)
    last_column, last_row = tile_at(east, south, zoom)
    return (
        f"<TileMatrixLimits><TileMatrix>{zoom}</TileMatrix><MinTileRow>{first_row}</MinTileRow>"
        f"<MaxTileRow>{last_row}</MaxTileRow><MinTileCol>{first_column}</MinTileCol>"
        f"<MaxTileCol>{last_column}</MaxTileCol></TileMatrixLimits>"
    )


def tile_at(longitude: float, latitude: float, zoom: int) -> tuple[int, int]:
    """Returns column and row of the tile that holds a place; what lies beyond the grid is on its edge."""
    bounded = math.radians(min(max(latitude, -MAX_LATITUDE), MAX_LATITUDE))
    across = (longitude + 180.0) / 360.0
    down = (1.0 - math.asinh(math.tan(bounded)) / math.pi) / 2.0
    last = (1 << zoom) - 1
    return min(max(int(across * (1 << zoom)), 0), last), min(max(int(down * (1 << zoom)), 0), last)


def _matrix(zoom: int) -> str:
    pixel_m = 2 * HALF_WORLD_M / (TILE_PX << zoom)
    return (
        f"<TileMatrix><ows:Identifier>{zoom}</ows:Identifier>"
        f"<ScaleDenominator>{pixel_m * _SCALE_OF_METRE!r}</ScaleDenominator>"
        f"<TopLeftCorner>{-HALF_WORLD_M!r} {HALF_WORLD_M!r}</TopLeftCorner>"
        f"<TileWidth>{TILE_PX}</TileWidth><TileHeight>{TILE_PX}</TileHeight>"
        f"<MatrixWidth>{1 << zoom}</MatrixWidth><MatrixHeight>{1 << zoom}</MatrixHeight></TileMatrix>"
    )
