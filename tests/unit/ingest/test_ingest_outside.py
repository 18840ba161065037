"""No file of the server and no address is read through an upload: a secret lies ready, and a web server listens."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.shutil
import shapely

from geopera_server.raster import ingest


def outcome(files: list[Path], tmp_path: Path, **given) -> str:
    """Inspects and converts, and returns the code of the refusal, else "taken"; whatever is written holds no secret."""
    try:
        inspection = ingest.inspect(files, **given)
        if inspection.kind == "raster":
            ingest.convert(inspection, tmp_path / "cog.tif")
            with rasterio.open(tmp_path / "cog.tif") as dataset:
                assert 54321 not in dataset.read()
                for level in range(len(dataset.overviews(1))):
                    with rasterio.open(tmp_path / "cog.tif", OVERVIEW_LEVEL=level) as overview:
                        assert 54321 not in overview.read()
                assert "OVERVIEWS" not in dataset.tag_namespaces()
    except ingest.IngestRefused as refused:
        return refused.code
    return "taken"


def vrt(source: object) -> str:
    return (
        '<VRTDataset rasterXSize="80" rasterYSize="60"><SRS>EPSG:32629</SRS>'
        "<GeoTransform>500000,10,0,2700000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


def pointers(secret: Path, url: str) -> dict[str, str]:
    """Everything GDAL takes for a dataset that only says where one is."""
    return {
        "vrt-file": vrt(secret),
        "vrt-web": vrt(f"/vsicurl/{url}"),
        "vrt-after-comment": f"<!-- {'x' * 900} -->\n{vrt(secret)}",
        "wms": f'<GDAL_WMS><Service name="WMS"><ServerUrl>{url}</ServerUrl></Service></GDAL_WMS>',
        "tile-index": f"<GDALTileIndexDataset><IndexDataset>{secret}</IndexDataset></GDALTileIndexDataset>",
        "mrf": f"<MRF_META><CachedSource><Source>{secret}</Source></CachedSource><Raster><Size x='80' y='60'/></Raster></MRF_META>",
        "ogr-vrt": f"<OGRVRTDataSource><OGRVRTLayer name='a'><SrcDataSource>{secret}</SrcDataSource></OGRVRTLayer></OGRVRTDataSource>",
        "wmts": f"<Capabilities xmlns='http://www.opengis.net/wmts/1.0'><ServiceMetadataURL href='{url}'/></Capabilities>",
        "gml": f"<gml:FeatureCollection xmlns:gml='http://www.opengis.net/gml' xmlns:xlink='x'><a xlink:href='{url}'/></gml:FeatureCollection>",
    }


@pytest.mark.parametrize("kind", list(pointers(Path("x"), "")))
def test_a_file_that_only_points_elsewhere(tmp_path, secret, silent, zipped, kind):
    text = pointers(secret, silent.url("secret.tif"))[kind]
    files = [tmp_path / name for name in ("a.vrt", "a.tif")]
    for path in files:
        path.write_text(text)
    archive = zipped({"scene/a.png": text.encode()})
    for path in (*files, archive):
        assert outcome([path], tmp_path, given_epsg=32629) in ("outside_reference", "unsupported_format")


def test_a_vrt_beside_a_real_image_is_not_used(make, ramp, secret, zipped, tmp_path):
    archive = zipped({"a.tif": make(ramp), "a.vrt": vrt(secret).encode()})
    assert outcome([archive], tmp_path) == "outside_reference"


@pytest.mark.parametrize("suffix", [".ovr", ".msk", ".aux.xml"])
@pytest.mark.parametrize("where", ["file", "web"])
def test_a_sidecar_that_points_elsewhere(make, secret, silent, tmp_path, suffix, where):
    image = make(np.ones((2000, 2000), np.uint16), "a.tif", tiled=True)
    target = secret if where == "file" else f"/vsicurl/{silent.url('secret.tif')}"
    aux = f'<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">{target}</MDI></Metadata></PAMDataset>'
    sidecar = tmp_path / f"a.tif{suffix}"
    sidecar.write_text(aux if suffix == ".aux.xml" else vrt(target))
    assert outcome([image, sidecar], tmp_path) == "outside_reference"
    # Even where it lies beside the image without having been sent along.
    assert outcome([image], tmp_path) == "taken"


@pytest.mark.parametrize("domain", ["OVERVIEWS", "overviews", "GEOLOCATION"])
def test_metadata_in_a_geotiff_that_names_another_file(make, secret, silent, tmp_path, domain):
    targets = (str(secret), f"/vsicurl/{silent.url('secret.tif')}", silent.url("secret.tif"))
    for number, target in enumerate(targets):
        tags = {"OVERVIEW_FILE": target, "X_DATASET": target, "Y_DATASET": target}
        image = make(
            np.ones((2000, 2000), np.uint16),
            f"{number}.tif",
            after=lambda dataset, tags=tags: dataset.update_tags(ns=domain, **tags),
        )
        # Not opened here to look: that alone would send the request.
        assert f'domain="{domain}"'.encode() in image.read_bytes()
        assert outcome([image], tmp_path) == "outside_reference"


GRID_SYSTEM = (
    'PROJCS["x",GEOGCS["x",DATUM["x",SPHEROID["x",6378137,298.257]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
    'PROJECTION["Mercator_1SP"],PARAMETER["central_meridian",0],PARAMETER["scale_factor",1],UNIT["metre",1],'
    'EXTENSION["PROJ4","+proj=merc +a=6378137 +b=6378137 +units=m +nadgrids={grid} +no_defs"]]'
)


@pytest.mark.parametrize("suffix", [".prj", ".aux.xml"])
def test_a_reference_system_that_wants_a_file_or_an_address(make, ramp, secret, silent, tmp_path, suffix):
    image = make(ramp, "a.png", driver="PNG", crs=None, transform=None)
    (tmp_path / "a.pgw").write_text("10 0 0 -10 500005 2699995")
    for grid, expected in [(secret, "outside_reference"), (silent.url("g.tif"), "outside_reference"), ("@null", "taken")]:
        wkt = GRID_SYSTEM.format(grid=grid)
        escaped = wkt.replace('"', "&quot;")
        sidecar = tmp_path / ("a.prj" if suffix == ".prj" else "a.png.aux.xml")
        sidecar.write_text(wkt if suffix == ".prj" else f"<PAMDataset><SRS>{escaped}</SRS></PAMDataset>")
        assert outcome([image, tmp_path / "a.pgw", sidecar], tmp_path) == expected


def test_gml_in_a_jpeg_2000_that_links_elsewhere(make, ramp, secret, silent, tmp_path):
    plain = make(ramp, "plain.jp2", driver="JP2OpenJPEG", QUALITY=100, REVERSIBLE="YES", GeoJP2="NO", GMLJP2="YES")
    data = plain.read_bytes()
    for target in (silent.url("crs.xml"), f"file://{secret}", str(secret)):
        # Of the same length: boxes name theirs.
        found = data.index(b'srsName="') + len(b'srsName="')
        end = data.index(b'"', found)
        linked = target.encode()[: end - found].ljust(end - found, b"#")
        path = tmp_path / "linked.jp2"
        path.write_bytes(data[:found] + linked + data[end:])
        assert outcome([path], tmp_path, given_epsg=32629) in ("taken", "no_georeference", "outside_reference")


@pytest.mark.parametrize("key", ["crs", "\\u0063rs", "c\\u0072s"])
def test_a_geojson_whose_reference_system_is_a_link(silent, tmp_path, key):
    path = tmp_path / "a.geojson"
    features = '"features": [{"type": "Feature", "properties": {}, "geometry": {"type": "Point", "coordinates": [1, 2]}}]'
    for kind, properties in [
        ("link", {"href": silent.url("crs")}),
        ("url", {"url": silent.url("crs")}),
        ("name", {"name": silent.url("crs")}),
    ]:
        system = json.dumps({"type": kind, "properties": properties})
        path.write_text(f'{{"type": "FeatureCollection", "{key}" : {system}, {features}}}')
        assert outcome([path], tmp_path) == "outside_reference"
    named = json.dumps({"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}})
    path.write_text(f'{{"type": "FeatureCollection", "{key}": {named}, {features}}}')
    assert outcome([path], tmp_path) == "taken"


def test_stac_items_are_features_and_their_assets_are_not_fetched(silent, tmp_path):
    path = tmp_path / "items.json"
    item = {
        "type": "Feature", "stac_version": "1.0.0", "id": "a", "geometry": {"type": "Point", "coordinates": [1, 2]},
        "properties": {"proj:epsg": 4326}, "assets": {"data": {"href": silent.url("secret.tif")}},
    }  # fmt: skip
    path.write_text(json.dumps({"type": "FeatureCollection", "stac_version": "1.0.0", "features": [item]}))
    inspection = ingest.inspect([path])
    assert (inspection.driver, inspection.vector.feature_count) == ("GeoJSON", 1)


def kml(body: str, head: str = "") -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<kml xmlns="http://www.opengis.net/kml/2.2"><Document>{body}</Document></kml>'


def test_kml_links_and_entities(secret, silent, tmp_path):
    path = tmp_path / "a.kml"
    point = "<Placemark><Point><coordinates>1,2</coordinates></Point></Placemark>"
    link = f"<NetworkLink><Link><href>{silent.url('a.kml')}</href></Link></NetworkLink>"
    path.write_text(kml(point + link))
    assert outcome([path], tmp_path) == "outside_reference"
    path.write_text(kml(point + "<name>&secret;</name>", f'<!DOCTYPE kml [<!ENTITY secret SYSTEM "file://{secret}">]>\n'))
    assert outcome([path], tmp_path) == "outside_reference"
    styled = f"<Style id='s'><IconStyle><Icon><href>{silent.url('i.png')}</href></Icon></IconStyle></Style>"
    path.write_text(kml(styled + point.replace("<Point>", f"<styleUrl>{silent.url('s.kml')}#s</styleUrl><Point>")))
    assert outcome([path], tmp_path) == "taken"


@pytest.fixture
def geopackage(tmp_path: Path) -> Path:
    path = tmp_path / "a.gpkg"
    point = np.array([shapely.to_wkb(shapely.Point(1, 2))], dtype=object)
    pyogrio.raw.write(path, point, [], [], layer="a", driver="GPKG", geometry_type="Point", crs="EPSG:4326")
    return path


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE VIEW stolen AS SELECT load_extension('{secret}')",
        "CREATE VIEW stolen AS SELECT gdal_get_pixel_value('{secret}', 1, 'georef', 0, 0)",
        "CREATE TABLE stolen (fid INTEGER PRIMARY KEY, v TEXT GENERATED ALWAYS AS (hex(fid)) VIRTUAL)",
        "CREATE TRIGGER stolen AFTER INSERT ON a BEGIN SELECT readfile('{secret}'); END",
    ],
)
def test_a_geopackage_with_definitions_that_reach_out(geopackage, secret, silent, tmp_path, planted):
    with sqlite3.connect(geopackage) as database:
        database.execute(planted.format(secret=secret))
    database.close()
    assert outcome([geopackage], tmp_path) == "outside_reference"


def test_a_geopackage_with_a_foreign_virtual_table_view_or_raster(geopackage, secret, tmp_path):
    whole = geopackage.read_bytes()
    for change, expected in [
        (
            f"INSERT INTO sqlite_master VALUES ('table', 'x', 'x', 0, 'CREATE VIRTUAL TABLE x USING VirtualOGR(''{secret}'')')",
            "outside_reference",
        ),
        ("UPDATE gpkg_contents SET data_type = 'tiles'", "unsupported_format"),
    ]:
        geopackage.write_bytes(whole)
        database = sqlite3.connect(geopackage)
        database.execute("PRAGMA writable_schema = ON")
        database.execute(change)
        database.commit()
        database.close()
        assert outcome([geopackage], tmp_path) == expected
    geopackage.write_bytes(whole)
    database = sqlite3.connect(geopackage)
    database.execute("CREATE VIEW endless AS WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT n FROM t")
    database.commit()
    assert outcome([geopackage], tmp_path) == "unsupported_format"
    database.execute("DROP VIEW endless")
    database.execute("CREATE VIEW seen AS SELECT * FROM a")
    database.execute(
        "INSERT INTO gpkg_contents (table_name, data_type, identifier, srs_id) VALUES ('seen', 'features', 'seen', 4326)"
    )
    database.commit()
    database.close()
    assert outcome([geopackage], tmp_path) == "unsupported_format"


def test_names_that_gdal_takes_for_file_systems(make, ramp, secret, tmp_path):
    image = make(ramp)
    for name in ("NETCDF:x", "GTIFF_DIR:1:x.tif", "vsicurl_streaming", "a.tif#mode=zarr,s3", "{a}.tif", "a.zip"):
        path = tmp_path / name
        path.write_bytes(image.read_bytes())
        assert ingest.inspect([path]).info.width == 80


# The process itself, in case a file should get past all of that


CONFINED = """
import json, socket, subprocess, sys
from pathlib import Path
from geopera_server.raster.ingest import confine
secret, work, port = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
held = confine.confine(readable=[Path(path) for path in sys.path], writable=work)
def tried(attempt):
    try:
        attempt()
    except OSError:
        return "refused"
    return "done"
print(json.dumps({
    **held,
    "read": tried(lambda: secret.read_bytes()),
    "list": tried(lambda: list(secret.parent.iterdir())),
    "write": tried(lambda: (secret.parent / "new").write_bytes(b"")),
    "connect": tried(lambda: socket.create_connection(("127.0.0.1", port))),
    "unix": tried(lambda: socket.socket(socket.AF_UNIX)),
    "run": tried(lambda: subprocess.run(["/bin/true"])),
    "work": tried(lambda: (work / "a").write_bytes(b"x")),
    "move": tried(lambda: ((work / "b").mkdir(), (work / "a").rename(work / "b" / "a"))),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can confine a process")
def test_a_confined_process_reads_writes_and_reaches_nothing_else(secret, silent, tmp_path):
    argv = [sys.executable, "-I", "-c", CONFINED, str(secret), str(tmp_path), str(silent.port)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    held = json.loads(done.stdout)
    if not (held.pop("files") and held.pop("network")):
        pytest.skip("this kernel has no Landlock or no seccomp: only the formats' own checks protect it")
    assert held == {
        "read": "refused", "list": "refused", "write": "refused", "connect": "refused", "unix": "refused", "run": "refused",
        "work": "done", "move": "done",
    }  # fmt: skip


ONLY_DRIVERS = """
import sys
from geopera_server.raster.ingest import drivers
import rasterio, rasterio._env
from rasterio.env import Env
with Env() as env:
    drivers.keep_only(drivers.RASTER_DRIVERS, rasterio._env)
    print(sorted(env.drivers()))
import pyogrio, pyogrio._io
drivers.keep_only(drivers.VECTOR_DRIVERS, pyogrio._io)
print(sorted(pyogrio.list_drivers()))
"""


def test_gdal_knows_no_driver_but_those_that_are_needed():
    done = subprocess.run([sys.executable, "-c", ONLY_DRIVERS], capture_output=True, text=True, check=True)
    rasters, vectors = done.stdout.splitlines()
    assert rasters == str(sorted({"GTiff", "COG", "MEM", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "netCDF", "AAIGrid"}))
    assert vectors == str(sorted({"GeoJSON", "GPKG", "ESRI Shapefile", "KML", "FlatGeobuf", "MEM"}))


def test_the_worker_inherits_no_secrets_and_ends_with_its_caller(make, tmp_path, monkeypatch):
    image = make(np.random.default_rng(0).integers(0, 9999, (4000, 4000), dtype=np.uint16), "big.tif", compress="deflate")
    caller = (
        "import sys; from pathlib import Path; from geopera_server.raster import ingest;"
        f"i = ingest.inspect([Path({str(image)!r})]);"
        f"ingest.convert(i, Path({str(tmp_path / 'cog.tif')!r}), progress=lambda share: print(share, flush=True))"
    )
    environment = {**os.environ, "GEOPERA_SECRET": "hunter2"}
    kept, given = socket.socketpair()
    with subprocess.Popen(
        [sys.executable, "-c", caller], stdout=subprocess.PIPE, env=environment, pass_fds=[given.fileno()]
    ) as process:
        given.close()
        assert process.stdout.readline()
        (worker,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert b"hunter2" not in Path(f"/proc/{worker}/environ").read_bytes()
        assert not any("socket" in str(each.readlink()) for each in Path(f"/proc/{worker}/fd").iterdir())
        status = Path(f"/proc/{worker}/status").read_text()
        assert "NoNewPrivs:\t1" in status
        process.send_signal(signal.SIGKILL)
    ended = os.pidfd_open(int(worker)) if Path(f"/proc/{worker}").exists() else None
    if ended is not None:
        assert select.select([ended], [], [], 10)[0], "the worker outlived its caller"
        os.close(ended)
    kept.close()
