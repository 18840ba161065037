"""What is not taken in, each with a file as a stranger would send it, its code, and words that help."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.control import GroundControlPoint
from rasterio.rpc import RPC

from geopera_server.raster import ingest
from geopera_server.raster.ingest import Limits, supervisor
from support.rasters import north_up


def refused(*files: Path, code: str, match: str | None = None, **given) -> str:
    """Returns the reason of a refusal with this code; it names no folder of the server."""
    with pytest.raises(ingest.IngestRefused, match=match) as caught:
        ingest.inspect(files, **given)
    assert caught.value.code == code, caught.value
    assert str(files[0].parent) not in caught.value.reason
    assert caught.value.reason.endswith(".")
    return caught.value.reason


# No place on Earth


def test_an_image_without_a_place(make, ramp):
    refused(make(ramp, crs=None, transform=None), code="no_georeference", match="world file")
    refused(make(ramp, "a.tif", crs=None), code="no_georeference", match="EPSG")
    refused(make(ramp, "b.tif", transform=None), code="no_georeference", given_epsg=32629)
    refused(make(ramp, "c.png", driver="PNG", crs=None, transform=None), code="no_georeference", given_epsg=32629)
    refused(make(ramp, "d.tif", crs=None), code="no_georeference", match="EPSG:999999", given_epsg=999_999)


def test_an_image_with_a_place_off_the_earth(make, ramp):
    far = rasterio.Affine(10, 0, 9e12, 0, -10, 9e12)
    refused(make(ramp, transform=far), code="no_georeference", match="outside its reference system")


@pytest.mark.parametrize(
    ("crs", "corner", "pixel"),
    [("EPSG:4326", (-400, 80), 10), ("EPSG:4326", (0, 300), 5), ("EPSG:4326", (9_000, 60), 0.1)],
    ids=["more than a turn", "over the pole", "another unit"],
)
def test_an_image_that_is_on_no_place_of_the_earth(make, ramp, crs, corner, pixel):
    refused(make(ramp, crs=crs, transform=north_up(*corner, pixel)), code="no_georeference")


def test_heights_are_no_place_on_the_earth(make, ramp):
    image = make(ramp, crs=None, transform=north_up(0, 60, 0.5))
    refused(image, code="no_georeference", match="outside its reference system", given_epsg=5773)


@pytest.mark.parametrize(("place", "crs"), [("[900, 9]", "EPSG:4326"), ("[5, 9]", "EPSG:5773")])
def test_a_vector_that_is_on_no_place_of_the_earth(tmp_path, place, crs):
    path = tmp_path / "a.geojson"
    path.write_text(
        f'{{"type": "FeatureCollection", "crs": {{"type": "name", "properties": {{"name": "{crs}"}}}}, "features": '
        f'[{{"type": "Feature", "properties": {{}}, "geometry": {{"type": "Point", "coordinates": {place}}}}}]}}'
    )
    refused(path, code="no_georeference", match="outside its reference system")


def test_control_points_and_camera_models_want_rectifying_first(make, ramp):
    points = [GroundControlPoint(row, col, 1000 + col, 2000 - row, 0) for row in (0, 59) for col in (0, 79)]

    def pin(dataset):
        dataset.gcps = (points, rasterio.crs.CRS.from_epsg(32629))

    refused(make(ramp, crs=None, transform=None, after=pin), code="needs_rectification", match="gdalwarp")
    coefficients = [1.0, *[0.0] * 19]
    model = RPC(
        *(0, 1, 0, 10, coefficients, coefficients, 100, 50),
        *(0, 10, coefficients, coefficients, 100, 50, None, None),
    )

    def aim(dataset):
        dataset.rpcs = model

    refused(make(ramp, "rpc.tif", crs=None, transform=None, after=aim), code="needs_rectification", match="RPC")


# Damage


@pytest.mark.parametrize(
    ("driver", "name", "options"),
    [
        ("GTiff", "a.tif", {}),
        ("GTiff", "b.tif", {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate", "BIGTIFF": "YES"}),
        ("JP2OpenJPEG", "c.jp2", {}),
        ("PNG", "d.png", {}),
        ("JPEG", "e.jpg", {}),
        ("WEBP", "f.webp", {}),
    ],
)
@pytest.mark.parametrize("kept", [0.3, 0.98])
def test_a_truncated_image(make, driver, name, options, kept):
    noise = np.random.default_rng(0).integers(0, 255, (3, 300, 400), dtype=np.uint8)
    path = make(noise, name, driver=driver, **options)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    refused(path, code="damaged_file", match="truncated", given_epsg=32629)


def test_an_image_with_broken_pixels_is_noticed_when_it_is_converted(make, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (600, 600), dtype=np.uint8)
    path = make(noise, tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    inspection = ingest.inspect([path])
    with pytest.raises(ingest.IngestRefused) as caught:
        ingest.convert(inspection, tmp_path / "cog.tif")
    assert caught.value.code == "damaged_file"
    assert not (tmp_path / "cog.tif").exists()


def test_a_world_file_without_numbers(make, ramp, tmp_path):
    picture = make(ramp, "a.png", driver="PNG", crs=None, transform=None)
    (tmp_path / "a.pgw").write_text("10 0 0 nonsense")
    refused(picture, tmp_path / "a.pgw", code="damaged_file", match="six numbers", given_epsg=32629)
    (tmp_path / "a.pgw").write_text("nan 0 0 nan 1 1")
    refused(picture, tmp_path / "a.pgw", code="no_georeference", match="no size", given_epsg=32629)


# Bombs


def bomb_tiff(path: Path, width: int, height: int, bands: int = 1) -> Path:
    """A TIFF of a few hundred bytes that declares any number of pixels, all of them in blocks that are left out."""
    path.unlink(missing_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands, dtype="uint8", tiled=True, SPARSE_OK=True,
        crs="EPSG:32629", transform=rasterio.Affine(10, 0, 500_000, 0, -10, 2_700_000), interleave="band",
    ):  # fmt: skip
        return path


def bomb_png(path: Path, side: int) -> Path:
    """A PNG that declares a square of any side and holds a row of zeros."""
    parts = [(b"IHDR", struct.pack(">2I5B", side, side, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def test_more_pixels_than_bytes_can_mean(tmp_path):
    refused(bomb_tiff(tmp_path / "a.tif", 60_000, 60_000), code="too_demanding", match="times")
    refused(bomb_png(tmp_path / "b.png", 60_000), code="too_demanding", match="times", given_epsg=32629)
    small = Limits(max_raw_bytes=10_000_000)
    refused(bomb_tiff(tmp_path / "c.tif", 4_000, 4_000), code="too_demanding", match="16 MB of pixels", limits=small)
    refused(bomb_tiff(tmp_path / "d.tif", 16, 16, 3_000), code="too_demanding", match="3,000 bands")


def test_a_block_larger_than_memory_allows(make):
    refused(in_one_tile(make, 3008), code="too_demanding", match="blocks of", limits=Limits(max_block_bytes=5_000_000))


def in_one_tile(make, side: int) -> Path:
    """A square of zeros that can only be decoded as a whole."""
    path = make(np.zeros((side, side), np.uint8), "plain.tif", compress="deflate")
    rasterio.shutil.copy(
        str(path),
        str(path.with_name("tile.tif")),
        driver="GTiff",
        TILED="YES",
        BLOCKXSIZE=side,
        BLOCKYSIZE=side,
        COMPRESS="DEFLATE",
    )
    return path.with_name("tile.tif")


def test_a_file_that_takes_too_long_or_too_much_memory(make, ramp, tmp_path):
    refused(make(ramp), code="too_demanding", match="too long", limits=Limits(inspect_s=0.01))
    tight = Limits(memory_bytes=350_000_000)
    refused(in_one_tile(make, 15_008), code="too_demanding", match="memory", limits=tight)


def zip_of(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, content in entries:
            archive.writestr(inside, content)
    return path


def test_archives_that_unfold(tmp_path):
    path = tmp_path / "a.zip"
    refused(zip_of(path, ("a.tif", bytes(100_000_000))), code="too_demanding", match="300 times")
    refused(zip_of(path, *((f"{n}.tif", b"x") for n in range(1001))), code="too_demanding", match="1,001 files")
    small = Limits(max_unpacked_bytes=1_000_000)
    refused(zip_of(path, ("a.tif", bytes(2_000_000))), code="too_demanding", match="unpacks to 2 MB", limits=small)
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.tif", b"II*\0")
    refused(zip_of(path, ("inner.tif", inner.getvalue())), code="unsafe_archive", match="another archive")


def test_an_archive_that_lies_about_its_sizes(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("a.tif", bytes(90_000_000)))
    data = path.read_bytes()
    # The uncompressed size, in the entry and in the directory, becomes 1 kB.
    path.write_bytes(data.replace(struct.pack("<I", 90_000_000), struct.pack("<I", 1_000)))
    refused(path, code="damaged_file", match="zip")


def test_an_archive_that_lies_about_how_well_it_is_packed(tmp_path):
    path = zip_of(tmp_path / "a.zip", ("a.tif", bytes(100_000_000)))
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 20, 90_000_000)
    path.write_bytes(data)
    refused(path, code="too_demanding", match="300 times")


def test_overlapping_entries_share_no_bytes(tmp_path, make, ramp):
    path = zip_of(tmp_path / "a.zip", ("a.tif", make(ramp).read_bytes()))
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    entry = bytes(data[start:end]).replace(b"a.tif", b"b.tif")
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 2, 2, 2 * len(entry))
    path.write_bytes(bytes(data[:end]) + entry + tail)
    refused(path, code="damaged_file")


def test_a_reader_that_fails_in_a_way_nobody_foresaw_refuses_the_file(make, ramp, monkeypatch, caplog):
    answer = {"broken_off": "Traceback: of a reader"}
    monkeypatch.setattr(supervisor, "_conversation", lambda *_: answer)
    refused(make(ramp), code="damaged_file", match="not as its format has it")
    assert "of a reader" in caplog.text


# Tricks with paths


@pytest.mark.parametrize(
    "inside",
    [
        "../evil.tif",
        "a/../../evil.tif",
        "/etc/evil.tif",
        "..\\evil.tif",
        "C:\\evil.tif",
        "~/evil.tif",
        "a\x01.tif",
        "sc\u202efit.exe",
    ],
)
def test_names_that_lead_out_of_the_archive(tmp_path, inside):
    refused(zip_of(tmp_path / "a.zip", (inside, b"II*\0")), code="unsafe_archive", match="leads out")
    assert not (tmp_path.parent / "evil.tif").exists()


def test_names_that_nobody_could_read(tmp_path):
    refused(zip_of(tmp_path / "a.zip", ("a" * 1_001 + ".tif", b"II*\0")), code="unsafe_archive", match="1,005 characters")


def test_files_that_were_not_used_are_named_in_few_words(tmp_path, make, ramp):
    rest = ((f"{number}.txt", b"x") for number in range(50))
    notes = ingest.inspect([zip_of(tmp_path / "a.zip", ("a.tif", make(ramp).read_bytes()), *rest)]).notes
    assert (len(notes), notes[-1]) == (21, "30 more files were not used.")


def test_links_devices_doubles_and_passwords(tmp_path, secret):
    path = tmp_path / "a.zip"
    link = zipfile.ZipInfo("scene.tif")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    refused(zip_of(path, (link, str(secret).encode())), code="unsafe_archive", match="link or device")
    with pytest.warns(UserWarning, match="Duplicate"):
        zip_of(path, ("a.tif", b"II*\0"), ("a.tif", b"II*\0"))
    refused(path, code="unsafe_archive", match="twice")
    data = bytearray(zip_of(path, ("a.tif", b"II*\0")).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, code="unsafe_archive", match="password")


# Of no use


def test_an_encoding_nobody_knows(tmp_path):
    path = tmp_path / "a.kml"
    path.write_bytes(b'<?xml version="1.0" encoding="nonsense"?><kml><Document/></kml>')
    refused(path, code="unsupported_format", match="UTF-8")


def test_what_is_no_raster_or_vector(tmp_path, zipped):
    path = tmp_path / "a.tif"
    for content, match in [
        (b"", "is empty"),
        (b"hello", "no format"),
        (b"EHFA_HEADER_TAG" + bytes(100), "Erdas"),
        (b"GRIB" + bytes(100), "GRIB"),
        (b"%PDF-1.7", "PDF"),
        (b"\x1f\x8b" + bytes(100), "only zip"),
        (b"SQLite format 3\0" + bytes(4096), "SQLite"),
    ]:
        path.write_bytes(content)
        with pytest.raises(ingest.IngestRefused, match=match) as caught:
            ingest.inspect([path])
        assert caught.value.code in ("unsupported_format", "damaged_file")
    refused(zipped({}), code="unsupported_format", match="empty archive")
    refused(zipped({"readme.txt": b"hello"}), code="unsupported_format")


def test_several_things_at_once(make, ramp, zipped):
    one, two = make(ramp, "one.tif"), make(ramp, "two.tif")
    refused(one, two, code="ambiguous_content", match=r"one\.tif, two\.tif")
    refused(zipped({"one.tif": one, "b/two.tif": two}), code="ambiguous_content")
    refused(zipped({"one.tif": one}), two, code="ambiguous_content", match="alone")
    pages = make(ramp, "pages.tif")
    with rasterio.open(f"GTIFF_DIR:1:{pages}") as first:
        assert first.count == 1
    append_page(pages, ramp)
    refused(pages, code="ambiguous_content", match="2 images")


def append_page(path: Path, array: np.ndarray) -> None:
    with (
        rasterio.Env(GDAL_PAM_ENABLED="NO"),
        rasterio.open(
            path, "w", driver="GTiff", width=array.shape[1], height=array.shape[0], count=1, dtype=array.dtype
        ) as dataset,
    ):
        dataset.write(array, 1)
    with rasterio.open(path) as dataset:
        rasterio.shutil.copy(dataset, str(path.with_suffix(".page")), driver="GTiff")
    rasterio.shutil.copy(str(path.with_suffix(".page")), str(path), driver="GTiff", APPEND_SUBDATASET="YES")
    path.with_suffix(".page").unlink()
