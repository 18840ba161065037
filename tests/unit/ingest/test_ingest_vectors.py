"""Every vector format and point clouds: layers, features, fields and where they lie."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyogrio
import pyproj
import pytest
import shapely

from geopera_server.raster import ingest

POINTS = [(10.0, 50.0), (11.0, 50.5), (10.5, 52.0)]
BOX = pytest.approx((10.0, 50.0, 11.0, 52.0), abs=1e-6)


def write_vector(
    path: Path, driver: str, *, layer: str = "fields", epsg: int = 4326, points=POINTS, append: bool = False
) -> Path:
    """Writes points with a name and a number each."""
    x, y = pyproj.Transformer.from_crs(4326, epsg, always_xy=True).transform(*zip(*points, strict=True))
    pyogrio.raw.write(
        path,
        geometry=np.array([shapely.to_wkb(shapely.Point(*each)) for each in zip(x, y, strict=True)], dtype=object),
        field_data=[np.array(["a"] * len(points), dtype=object), np.arange(len(points), dtype="int64")],
        fields=["name", "number"],
        layer=layer,
        driver=driver,
        geometry_type="Point",
        crs=f"EPSG:{epsg}",
        append=append,
    )
    return path


def zipped_shapefile(zipped, tmp_path: Path, *, without: tuple[str, ...] = (), **given) -> Path:
    folder = tmp_path / "shape"
    folder.mkdir()
    write_vector(folder / "fields.shp", "ESRI Shapefile", **given)
    return zipped({f"deep/{p.name}": p for p in sorted(folder.iterdir()) if p.suffix not in without}, "fields.zip")


@pytest.mark.parametrize(
    ("driver", "name", "epsg"),
    [
        ("GeoJSON", "fields.geojson", 4326),
        ("GPKG", "fields.gpkg", 32632),
        ("FlatGeobuf", "fields.fgb", 3035),
        ("KML", "fields.kml", 4326),
    ],
)
def test_a_vector_file_says_what_it_holds(tmp_path, driver, name, epsg):
    path = write_vector(tmp_path / name, driver, epsg=epsg)
    inspection = ingest.inspect([path])
    (layer,) = inspection.vector.layers
    assert (inspection.kind, inspection.driver, inspection.needs_conversion) == ("vector", driver, False)
    assert (inspection.main, inspection.entry, inspection.info) == (path, None, None)
    assert (layer.name, layer.geometry_type, layer.feature_count, layer.epsg) == ("fields", layer.geometry_type, 3, epsg)
    assert layer.geometry_type.startswith("Point")
    assert inspection.vector.bbox_wgs84 == BOX if epsg == 4326 else inspection.vector.bbox_wgs84[0] <= 10.0
    assert shapely.geometry.shape(inspection.vector.footprint_wgs84).buffer(0.01).covers(shapely.MultiPoint(POINTS))
    assert "name" in {field.name.lower() for field in layer.fields}


def test_a_zipped_shapefile_is_one_layer(zipped, tmp_path):
    archive = zipped_shapefile(zipped, tmp_path)
    inspection = ingest.inspect([archive])
    assert (inspection.format, inspection.media_type, inspection.entry) == ("Shapefile", "application/zip", "deep/fields.shp")
    assert inspection.vector.bbox_wgs84 == BOX
    assert [field.name for field in inspection.vector.layers[0].fields] == ["name", "number"]


def test_a_kmz_may_bring_pictures(zipped, make, tmp_path):
    document = write_vector(tmp_path / "doc.kml", "KML")
    archive = zipped(
        {"doc.kml": document, "files/icon.png": make(np.zeros((3, 4, 4), "uint8"), "i.png", driver="PNG")}, "a.kmz"
    )
    assert ingest.inspect([archive]).vector.feature_count == 3


def test_layers_are_told_one_by_one_and_together(tmp_path):
    path = write_vector(tmp_path / "two.gpkg", "GPKG", layer="west")
    write_vector(path, "GPKG", layer="east", points=[(20.0, 40.0)])
    vector = ingest.inspect([path]).vector
    assert {layer.name: layer.feature_count for layer in vector.layers} == {"west": 3, "east": 1}
    assert (vector.feature_count, vector.epsg, vector.bbox_wgs84) == (4, 4326, (10.0, 40.0, 20.0, 52.0))


def test_a_geopackage_in_write_ahead_mode_is_read(tmp_path):
    path = write_vector(tmp_path / "wal.gpkg", "GPKG")
    data = bytearray(path.read_bytes())
    data[18:20] = b"\x02\x02"
    path.write_bytes(data)
    assert ingest.inspect([path]).vector.feature_count == 3


def test_a_shapefile_is_told_what_is_missing(zipped, tmp_path):
    with pytest.raises(ingest.IngestRefused, match=r"\.dbf") as refused:
        ingest.inspect([zipped_shapefile(zipped, tmp_path, without=(".dbf",))])
    assert refused.value.code == "damaged_file"
    with pytest.raises(ingest.IngestRefused, match="in one zip"):
        ingest.inspect([tmp_path / "shape" / "fields.shp"])


def test_without_a_reference_system_there_is_no_place(zipped, tmp_path):
    with pytest.raises(ingest.IngestRefused, match=r"\.prj") as refused:
        ingest.inspect([zipped_shapefile(zipped, tmp_path, without=(".prj",))])
    assert refused.value.code == "no_georeference"


@pytest.mark.parametrize(
    ("driver", "name"), [("GeoJSON", "a.geojson"), ("GPKG", "a.gpkg"), ("FlatGeobuf", "a.fgb"), ("KML", "a.kml")]
)
def test_a_truncated_vector_is_refused(tmp_path, driver, name):
    rng = np.random.default_rng(0)
    path = write_vector(tmp_path / name, driver, points=[tuple(each) for each in rng.uniform(0, 50, (2000, 2))])
    path.write_bytes(path.read_bytes()[: -path.stat().st_size // 3])
    with pytest.raises(ingest.IngestRefused) as refused:
        ingest.inspect([path])
    assert refused.value.code == "damaged_file"


def test_a_file_without_features_is_refused(tmp_path):
    path = tmp_path / "empty.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with pytest.raises(ingest.IngestRefused, match="no feature"):
        ingest.inspect([path])


def las(*, crs: bytes | None, compressed: bool = True, count: int = 1000, copc: bool = False) -> bytes:
    """A LAS 1.4 header with its records, and room where the points would be."""
    records = []
    if copc:
        records.append(struct.pack("<2x16sHH32x", b"copc", 1, 160) + bytes(160))
    if crs is not None:
        records.append(struct.pack("<2x16sHH32x", b"LASF_Projection", 2112, len(crs)) + crs)
    points_at = 375 + sum(map(len, records))
    head = bytearray(375)
    head[:4], head[24:26] = b"LASF", b"\x01\x04"
    struct.pack_into("<HIIBHI", head, 94, 375, points_at, len(records), 6 | (0x80 if compressed else 0), 30, 0)
    struct.pack_into("<6d", head, 179, 692_000.0, 691_000.0, 5_336_000.0, 5_335_000.0, 600.0, 500.0)
    struct.pack_into("<QIQ", head, 235, 0, 0, count)
    points = struct.pack("<q", points_at + 100) + bytes(192) if compressed else bytes(30 * count)
    return bytes(head) + b"".join(records) + points


UTM_32 = pyproj.CRS.from_epsg(32632).to_wkt("WKT1_GDAL").encode()


@pytest.mark.parametrize(("kind", "given"), [("LAZ", {}), ("LAS", {"compressed": False}), ("COPC", {"copc": True})])
def test_a_point_cloud_is_known_by_its_header(tmp_path, kind, given):
    path = tmp_path / "points.laz"
    path.write_bytes(las(crs=UTM_32, **given))
    inspection = ingest.inspect([path])
    (layer,) = inspection.vector.layers
    assert (inspection.driver, layer.name, layer.feature_count, layer.epsg) == ("LAS", kind, 1000, 32632)
    assert inspection.vector.bbox_wgs84[0] == pytest.approx(11.57, abs=0.01)


def test_a_point_cloud_needs_a_reference_system_and_its_end(tmp_path):
    path = tmp_path / "points.laz"
    path.write_bytes(las(crs=None))
    with pytest.raises(ingest.IngestRefused) as refused:
        ingest.inspect([path])
    assert refused.value.code == "no_georeference"
    for whole in (las(crs=UTM_32), las(crs=UTM_32, compressed=False)):
        path.write_bytes(whole[: len(whole) - 150])
        with pytest.raises(ingest.IngestRefused) as refused:
            ingest.inspect([path])
        assert refused.value.code == "damaged_file"


@pytest.mark.parametrize(("places", "box"), [((200, 210), (-160, -150)), ((170, 190), (170, -170)), ((0, 360), (-180, 180))])
def test_longitudes_may_be_counted_from_zero(tmp_path, places, box):
    path = tmp_path / "a.geojson"
    features = [
        {"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [east, north]}}
        for east, north in zip(places, (10, 20), strict=True)
    ]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    assert ingest.inspect([path]).vector.bbox_wgs84 == (box[0], 10, box[1], 20)
