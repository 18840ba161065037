"""Which addresses are opened, and what is said when one cannot be."""

from __future__ import annotations

import io
import logging
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from geopera_server.raster.clip import clip_to_cog
from geopera_server.raster.env import gdal_env
from geopera_server.raster.errors import (
    NotGeoreferenced,
    SourceError,
    SourceRefused,
    SourceUnreachable,
    SourceUnreadable,
    TooLarge,
    shown_href,
)
from geopera_server.raster.probe import probe
from geopera_server.raster.source import open_source
from support.http_files import HttpFiles
from support.rasters import MakeRaster, aoi_within, left_over, north_up

BAND = "B04.tif"
AOI = [(0.21, 0.52), (0.83, 0.31), (0.47, 0.88)]

# Requests of one open: HEAD for the size, HEAD again by the driver, GET of the header.
REQUESTS_TO_OPEN = 3


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Waiting is cut short for tests; a surrounding environment wins over the package's own options."""
    with gdal_env(GDAL_HTTP_TIMEOUT="1", GDAL_HTTP_MAX_RETRY="1", GDAL_HTTP_RETRY_DELAY="0.01"):
        yield


@pytest.fixture
def scene(served: HttpFiles, sentinel2: Path) -> HttpFiles:
    shutil.copy(sentinel2 / BAND, served.root / BAND)
    return served


@pytest.mark.parametrize(
    "href",
    [
        "B04.tif",
        "./B04.tif",
        "../B04.tif",
        "",
        "s3://bucket/B04.tif",
        "ftp://example.com/B04.tif",
        "data:image/png;base64,AAAA",
        "zip:///data/a.zip!B04.tif",
        "zip+https://example.com/a.zip!B04.tif",
        "/vsicurl/http://127.0.0.1/B04.tif",
        "/vsizip//data/a.zip/B04.tif",
        "//vsimem/B04.tif",
        "/VSIMEM/B04.tif",
        "file:///vsizip/data/a.zip/B04.tif",
        "file:///%76sizip/data/a.zip/B04.tif",
        "GTIFF_DIR:1:/data/B04.tif",
        "NETCDF:/data/a.nc:b",
        "<VRTDataset/>",
        "http://",
        "https:///B04.tif",
        "http://example.com/a b.tif",
        "http://example.com/a\r\nHost: other",
    ],
)
def test_only_web_addresses_and_absolute_paths_are_opened(href: str) -> None:
    with pytest.raises(SourceRefused), open_source(href):
        pass


def vrt_of(path: Path) -> str:
    with rasterio.open(path) as source:
        width, height = source.width, source.height
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}"><VRTRasterBand dataType="UInt16" band="1">'
        f'<SimpleSource><SourceFilename relativeToVRT="0">{path}</SourceFilename><SourceBand>1</SourceBand>'
        "</SimpleSource></VRTRasterBand></VRTDataset>"
    )


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("name", ["sneaky.vrt", "sneaky.tif"])
def test_a_virtual_raster_cannot_make_the_server_read_other_files(scene: HttpFiles, sentinel2: Path, name: str) -> None:
    sneaky = scene.root / name
    sneaky.write_text(vrt_of(sentinel2 / BAND))
    with rasterio.open(sneaky) as proof:
        assert proof.read(1, window=Window(0, 0, 1, 1)).size == 1
    for href in (str(sneaky), sneaky.as_uri(), scene.url(name)):
        with pytest.raises(SourceUnreadable, match="is not a readable image"), open_source(href):
            pass


@pytest.mark.parametrize("driver", ["GTiff", "JP2OpenJPEG"])
@pytest.mark.parametrize("domain", ["OVERVIEWS", "overviews"])
@pytest.mark.parametrize("named", ["file", "virtual"])
def test_a_raster_cannot_name_another_file_as_its_overviews(
    make_raster: MakeRaster, tmp_path: Path, domain: str, driver: str, named: str
) -> None:
    secret = make_raster(np.full((128, 128), 77, "uint16"), "secret.tif")
    target = str(secret) if named == "file" else vrt_of(secret)
    sneaky = make_raster(
        np.ones((256, 256), "uint16"), "sneaky.tif", after=lambda file: file.update_tags(ns=domain, OVERVIEW_FILE=target)
    )
    with rasterio.open(sneaky) as proof:
        assert proof.read(1, out_shape=(128, 128)).max() == 77
    if driver != "GTiff":
        sneaky = shutil.move(sneaky, tmp_path / "plain.tif")
        rasterio.shutil.copy(str(sneaky), str(tmp_path / "sneaky.jp2"), driver=driver, WRITE_METADATA="YES")
        sneaky = tmp_path / "sneaky.jp2"
    with pytest.raises(SourceRefused, match="names another file"), open_source(str(sneaky)):
        pass


def test_files_beside_the_source_do_not_change_it(make_raster: MakeRaster) -> None:
    source = make_raster(np.ones((10, 10), "uint8"))
    aux = source.with_suffix(".tif.aux.xml")
    aux.write_text('<PAMDataset><PAMRasterBand band="1"><Description>planted</Description></PAMRasterBand></PAMDataset>')
    with rasterio.Env(GDAL_PAM_ENABLED="YES", GDAL_DISABLE_READDIR_ON_OPEN="NO"), rasterio.open(source) as proof:
        assert proof.descriptions == ("planted",)
    assert probe(str(source)).band_names == ("b1",)


@pytest.mark.parametrize("name", ["a b.tif", "a?b=c.tif", "a#b.tif", "a%20b.tif", "a!b.tif", "é.tif"])
def test_file_names_are_taken_as_they_are(make_raster: MakeRaster, name: str) -> None:
    source = make_raster(np.ones((10, 10), "uint8"), name)
    assert probe(str(source)).width == 10
    assert probe(source.as_uri()).width == 10


@pytest.mark.parametrize(
    "content", [b"", b"II*\x00", b"<html></html>", b"\x89PNG\r\n\x1a\n", b"II*\x00\x08\x00\x00\x00\xff\xff"]
)
def test_what_is_no_image_is_unreadable(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tif").write_bytes(content)
    with pytest.raises(SourceUnreadable, match=r"^x\.tif is not a readable image \(GeoTIFF, JPEG 2000"):
        probe(str(tmp_path / "x.tif"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_an_image_without_a_place_says_so(make_raster: MakeRaster) -> None:
    source = make_raster(np.ones((10, 10), "uint8"), "x.png", driver="PNG", crs=None, transform=None)
    with pytest.raises(NotGeoreferenced, match=r"^x\.png has no place on Earth"):
        probe(str(source))


def test_a_missing_file_and_a_folder_are_unreadable(tmp_path: Path) -> None:
    for path in (tmp_path / "none.tif", tmp_path):
        with pytest.raises(SourceUnreadable, match="does not exist"):
            probe(str(path))


def test_blocks_too_large_to_decode_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "huge.tif"
    with rasterio.open(
        path, "w", driver="GTiff", width=40_000, height=30_000, count=1, dtype="uint8", blockxsize=40_000, blockysize=30_000,
        crs="EPSG:32629", transform=north_up(500_000, 0, 2), SPARSE_OK=True, tiled=True,
    ):  # fmt: skip
        pass
    assert path.stat().st_size < 10_000
    with pytest.raises(TooLarge, match=r"huge\.tif is stored in blocks of 1,200 MB"):
        probe(str(path))


# --- over HTTP ---------------------------------------------------------------------------------------------------------


def clip_of(scene: HttpFiles, sentinel2: Path, destination: Path, query: str = "") -> str:
    return clip_to_cog(scene.url(BAND, query), destination, aoi=aoi_within(sentinel2 / BAND, AOI)).sha256


def test_a_remote_clip_equals_the_local_one_and_fetches_only_what_it_needs(
    scene: HttpFiles, sentinel2: Path, tmp_path: Path
) -> None:
    remote = clip_of(scene, sentinel2, tmp_path / "remote.tif")
    local = clip_to_cog(str(sentinel2 / BAND), tmp_path / "local.tif", aoi=aoi_within(sentinel2 / BAND, AOI)).sha256
    assert remote == local
    fetched = [request.range for request in scene.requests if request.method == "GET"]
    assert None not in fetched, "a GET without a range fetches the whole file"
    spans = [[int(end) for end in header.removeprefix("bytes=").split("-")] for header in fetched if header]
    assert sum(last - first + 1 for first, last in spans) < 0.95 * (sentinel2 / BAND).stat().st_size


def test_a_small_aoi_fetches_a_small_part(scene: HttpFiles, sentinel2: Path, tmp_path: Path) -> None:
    aoi = aoi_within(sentinel2 / BAND, [(0.1, 0.1), (0.12, 0.1), (0.12, 0.12), (0.1, 0.12)])
    clip_to_cog(scene.url(BAND), tmp_path / "c.tif", aoi=aoi)
    spans = [r.range.removeprefix("bytes=").split("-") for r in scene.requests if r.range]
    assert sum(int(last) - int(first) + 1 for first, last in spans) < 500_000
    assert len(scene.requests) <= 8


@pytest.mark.parametrize("code", [404, 410])
def test_what_the_server_does_not_have_is_unreadable(scene: HttpFiles, code: int) -> None:
    scene.status(BAND, code)
    with pytest.raises(SourceUnreadable, match=rf"does not exist \(HTTP {code}\)"):
        probe(scene.url(BAND))


@pytest.mark.parametrize("code", [401, 403])
def test_a_refused_access_is_unreadable(scene: HttpFiles, code: int) -> None:
    scene.status(BAND, code)
    with pytest.raises(SourceUnreadable, match=rf"its server refused access \(HTTP {code}\)"):
        probe(scene.url(BAND))


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_worth_a_retry(scene: HttpFiles, code: int) -> None:
    scene.status(BAND, code)
    with pytest.raises(SourceUnreachable, match=f"its server answered HTTP {code}"):
        probe(scene.url(BAND))


def test_a_login_page_is_no_image(scene: HttpFiles) -> None:
    scene.html(BAND)
    with pytest.raises(SourceUnreadable, match="is not a readable image"):
        probe(scene.url(BAND))


def test_a_server_without_ranges_is_named_as_a_possible_cause(scene: HttpFiles) -> None:
    scene.ignore_range(BAND)
    with pytest.raises(SourceUnreadable, match="does not answer range requests"):
        probe(scene.url(BAND))


def test_a_server_that_hangs_is_worth_a_retry(scene: HttpFiles) -> None:
    scene.slow(BAND, 30)
    with (
        gdal_env(GDAL_HTTP_MAX_RETRY="0", GDAL_HTTP_TIMEOUT="0.4"),
        pytest.raises(SourceUnreachable, match="did not answer in time"),
    ):
        probe(scene.url(BAND))


def test_a_refused_connection_is_worth_a_retry() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(SourceUnreachable, match="no connection to its server"):
        probe(f"http://127.0.0.1:{port}/B04.tif")


def test_an_unknown_host_is_worth_a_retry() -> None:
    with pytest.raises(SourceUnreachable, match="name is not known"):
        probe("http://nowhere.invalid/B04.tif")


def test_a_short_trouble_is_retried_without_notice(scene: HttpFiles, sentinel2: Path, tmp_path: Path) -> None:
    calm = clip_of(scene, sentinel2, tmp_path / "calm.tif")
    scene.status(BAND, 503, times=1)
    assert clip_of(scene, sentinel2, tmp_path / "c.tif") == calm
    scene.status(BAND, 503, skip=REQUESTS_TO_OPEN, times=1)
    assert clip_of(scene, sentinel2, tmp_path / "c.tif") == calm


def test_failures_are_not_remembered(scene: HttpFiles) -> None:
    for fault in (scene.missing, scene.html):
        fault(BAND)
        with pytest.raises(SourceUnreadable):
            probe(scene.url(BAND))
        scene.heal(BAND)
        assert probe(scene.url(BAND)).width == 1098


def test_a_changed_file_is_read_anew(scene: HttpFiles, sentinel2: Path) -> None:
    assert probe(scene.url(BAND)).width == 1098
    shutil.copy(sentinel2 / "B05.tif", scene.root / BAND)
    assert probe(scene.url(BAND)).width == 549


def test_a_cut_reply_is_fetched_again(scene: HttpFiles, sentinel2: Path, tmp_path: Path) -> None:
    calm = clip_of(scene, sentinel2, tmp_path / "calm.tif")
    scene.cut(BAND, 100_000, skip=REQUESTS_TO_OPEN, times=1)
    assert clip_of(scene, sentinel2, tmp_path / "c.tif") == calm


@pytest.mark.parametrize("trouble", ["cut", "status", "slow"])
def test_trouble_that_stays_in_the_middle_is_worth_a_retry(
    scene: HttpFiles, sentinel2: Path, tmp_path: Path, trouble: str
) -> None:
    amount = {"cut": 1000, "status": 500, "slow": 30}[trouble]
    getattr(scene, trouble)(BAND, amount, skip=REQUESTS_TO_OPEN)
    with gdal_env(GDAL_HTTP_MAX_RETRY="0", GDAL_HTTP_TIMEOUT="0.4"), pytest.raises(SourceUnreachable):
        clip_of(scene, sentinel2, tmp_path / "c.tif")
    assert left_over(tmp_path, "served") == []


@pytest.mark.parametrize("trouble", ["missing", "html"])
def test_a_source_that_vanishes_in_the_middle_is_unreadable(
    scene: HttpFiles, sentinel2: Path, tmp_path: Path, trouble: str
) -> None:
    getattr(scene, trouble)(BAND, skip=REQUESTS_TO_OPEN)
    with pytest.raises(SourceUnreadable):
        clip_of(scene, sentinel2, tmp_path / "c.tif")
    assert left_over(tmp_path, "served") == []


def test_a_get_that_fails_behind_a_head_that_works_is_told_apart(scene: HttpFiles) -> None:
    scene.status(BAND, 500, skip=2)
    with pytest.raises(SourceUnreachable, match="HTTP 500"):
        probe(scene.url(BAND))


def test_an_address_signed_for_get_alone_is_read(scene: HttpFiles) -> None:
    scene.status(BAND, 403, times=2)
    assert probe(scene.url(BAND)).width == 1098
    assert [request.method for request in scene.requests[:3]] == ["HEAD", "HEAD", "GET"]


def test_a_header_that_was_cut_short_is_noticed(scene: HttpFiles, sentinel2: Path, tmp_path: Path) -> None:
    """GDAL opens such a file without complaint, but without its overviews and what else stands behind the cut."""
    scene.cut(BAND, 900, skip=REQUESTS_TO_OPEN - 1, times=1)
    with open_source(scene.url(BAND)) as source:
        assert source.dataset.overviews(1) != [2, 4]
    scene.cut(BAND, 900, skip=REQUESTS_TO_OPEN - 1, times=1)
    with pytest.raises(SourceUnreachable, match="was cut short"):
        probe(scene.url(BAND))
    scene.cut(BAND, 900, skip=REQUESTS_TO_OPEN - 1, times=1)
    with pytest.raises(SourceUnreachable, match=r"was cut short|in the middle of the file"):
        clip_of(scene, sentinel2, tmp_path / "c.tif")
    assert left_over(tmp_path, "served") == []


def test_a_truncated_file_is_unreadable(scene: HttpFiles, sentinel2: Path, tmp_path: Path) -> None:
    content = (scene.root / BAND).read_bytes()
    (scene.root / BAND).write_bytes(content[:1_500_000])
    with pytest.raises(SourceUnreadable, match="damaged or truncated"):
        clip_to_cog(scene.url(BAND), tmp_path / "c.tif", aoi=None)


def test_no_message_and_no_log_line_holds_a_secret(
    scene: HttpFiles, sentinel2: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger("rasterio").addHandler(handler)
    messages = []
    try:
        for spoil in (
            scene.missing,
            scene.html,
            lambda name: scene.status(name, 500),
            lambda name: scene.cut(name, 1000, skip=3),
        ):
            spoil(BAND)
            href = scene.url(BAND, "X-Amz-Signature=s3cr3t").replace("http://", "http://user:pa55word@")
            with pytest.raises(SourceError) as caught:
                clip_to_cog(href, tmp_path / "c.tif", aoi=None)
            messages.append(f"{caught.value} {caught.value!r} {caught.value.href} {caught.value.args}")
    finally:
        logging.getLogger("rasterio").removeHandler(handler)
    text = "\n".join(messages) + stream.getvalue() + caplog.text
    assert "HTTP error code: 500" in text, "the log under test must be there"
    assert "s3cr3t" not in text
    assert "pa55word" not in text
    assert BAND in messages[0]


def test_shown_addresses_name_no_credentials_and_no_folders() -> None:
    assert shown_href("https://u:p@h.example:8443/a/b.tif?sig=1#x") == "https://h.example:8443/a/b.tif"
    assert shown_href("/srv/objects/org/b.tif") == "b.tif"
    assert shown_href("file:///srv/objects/org/b.tif") == "b.tif"
