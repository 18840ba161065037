"""Opens a raster by address, and says in plain words what is wrong when that fails.

GDAL can open nearly anything, and some formats (VRT, WMS, GDAL's own prefixes) are instructions to read other files.
Only plain image formats at http(s) addresses and absolute paths pass here. Which hosts may be read, redirects included, is
judged on the way that whoever calls names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from rasterio._err import CPLE_BaseError
from rasterio.enums import Interleaving, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from geopera_server.raster.env import MEGABYTE, gdal_env
from geopera_server.raster.errors import (
    NotGeoreferenced,
    SourceError,
    SourceMissing,
    SourceRefused,
    SourceUnreachable,
    SourceUnreadable,
    TooLarge,
    shown_href,
)

DRIVERS = ("GTiff", "JP2OpenJPEG", "PNG", "JPEG", "WEBP")
FORMATS = "GeoTIFF, JPEG 2000, PNG, JPEG or WebP"
MAX_BLOCK_BYTES = 1000 * MEGABYTE

GDAL_ERRORS = (RasterioError, CPLE_BaseError)

_HTTP_STATUS = re.compile(r"(?:HTTP response code:|CONNECT tunnel failed, response) (\d{3})")
_REFUSED_ON_THE_WAY = 451
_RETRY_STATUSES = {408, 425, 429}
_UNSAFE_CHARACTERS = re.compile(r"[\x00-\x20\x7f]")


class Source:
    """An open raster; `dataset` is rasterio's, `read` and `read_mask` raise this package's errors."""

    def __init__(self, href: str) -> None:
        self.href = href
        self._path, self._remote = _gdal_path(href)
        self.dataset = self._open()
        self._check_blocks()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.dataset.close()

    def read(
        self, window: Window, *, bands: tuple[int, ...] | None = None, shape: tuple[int, int, int] | None = None
    ) -> npt.NDArray[Any]:
        """The bands (counted from 1, default all) in the window, (band, row, column), in the source's own type.

        A `shape` smaller than the window is filled from the overview that suits it, with the nearest pixels.
        """
        indexes = list(bands) if bands is not None else None
        return cast("npt.NDArray[Any]", self._attempt(lambda dataset: dataset.read(indexes, window=window, out_shape=shape)))

    def read_mask(self, window: Window, *, shape: tuple[int, int] | None = None) -> npt.NDArray[np.bool_]:
        """True where the source's own mask or alpha band lets a pixel through, (row, column)."""
        mask = self._attempt(lambda dataset: dataset.dataset_mask(window=window, out_shape=shape))
        return np.asarray(mask, dtype=np.bool_)

    @property
    def has_mask_band(self) -> bool:
        """Whether the file carries a mask of its own, beside or instead of a nodata value or an alpha band."""
        flags = self.dataset.mask_flag_enums[0]
        return MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags

    def _attempt(self, read: Callable[[Any], Any]) -> Any:
        try:
            return read(self.dataset)
        except GDAL_ERRORS as error:
            if not self._remote:
                raise self._read_error(error) from None
        # A cut connection heals by asking again; a fresh handle also tells 404 and 5xx apart, which a read does not.
        self._reopen()
        try:
            return read(self.dataset)
        except GDAL_ERRORS as error:
            raise self._read_error(error) from None

    def confirm(self) -> None:
        """Reads the header of a remote file once more and raises SourceUnreachable unless it says the same.

        GDAL takes a reply that was cut short for the end of the file and opens it without the tags behind the cut:
        nodata value, mask and overviews may be missing without any error.
        """
        if self._remote:
            self._reopen()

    def _reopen(self) -> None:
        before = _header(self.dataset)
        self.dataset.close()
        self.dataset = self._open()
        if before != _header(self.dataset):
            raise SourceUnreachable(self.href, "changed, or was cut short, while it was read")

    def _open(self) -> Any:
        try:
            return self._dataset()
        except SourceUnreadable:
            if not self._remote:
                raise
        # Asked by GET: addresses may be signed for GET alone, and only this way a failing GET shows its status.
        with gdal_env(CPL_VSIL_CURL_USE_HEAD="NO"):
            return self._dataset()

    def _dataset(self) -> Any:
        try:
            dataset = DatasetReader(self._path, driver=list(DRIVERS), sharing=False)
        except NotGeoreferencedWarning:
            raise NotGeoreferenced(self.href, "has no place on Earth: no coordinate reference system") from None
        except GDAL_ERRORS as error:
            raise open_error(self.href, error) from None
        # What is named there GDAL opens with any of its drivers, wherever it lies, as soon as it looks for overviews.
        if any(domain.lower() == "overviews" for domain in dataset.tag_namespaces()):
            dataset.close()
            raise SourceRefused(self.href, "is refused: its metadata names another file as its overviews")
        return dataset

    def header_error(self, error: BaseException) -> SourceError:
        """What a GDAL error outside of `read` means: some property of the dataset lies in a part that is broken."""
        if self._remote:
            return SourceUnreachable(self.href, "stopped answering in the middle of the file")
        return self._read_error(error)

    def _read_error(self, error: BaseException) -> SourceError:
        if self._remote and "got 0 bytes" in chain_text(error):
            return SourceUnreachable(self.href, "stopped answering in the middle of the file")
        return SourceUnreadable(self.href, "is damaged or truncated: its pixels cannot be decoded")

    def _check_blocks(self) -> None:
        height, width = self.dataset.block_shapes[0]
        planes = self.dataset.count if self.dataset.interleaving is Interleaving.pixel else 1
        block_bytes = height * width * planes * np.dtype(self.dataset.dtypes[0]).itemsize
        if block_bytes > MAX_BLOCK_BYTES:
            self.dataset.close()
            raise TooLarge(
                f"{shown_href(self.href)} is stored in blocks of {math.ceil(block_bytes / MEGABYTE):,} MB; "
                f"tile it first (a Cloud Optimized GeoTIFF has blocks below 1 MB)."
            )


@contextmanager
def open_source(href: str, *, way: Mapping[str, str] | None = None) -> Iterator[Source]:
    """Opens the raster at an http(s) address, a file:// address or an absolute path for the length of the block.

    `way` holds the GDAL options under which the network is asked.
    Raises SourceRefused, SourceUnreadable, SourceUnreachable or TooLarge.
    """
    # Not for remote files: GDAL fetches for its decoding threads one by one and without retries.
    threads = {} if href.lower().startswith("http") else {"GDAL_NUM_THREADS": "ALL_CPUS"}
    with gdal_env(**threads, **(way or {})), Source(href) as source:
        try:
            yield source
        except GDAL_ERRORS as error:
            raise source.header_error(error) from None


def open_error(href: str, error: BaseException) -> SourceError:
    """What GDAL's refusal to open means for the caller."""
    text = chain_text(error)
    status = _HTTP_STATUS.search(text)
    if status is not None:
        return _status_error(href, int(status[1]))
    if "CURL error" in text:
        return _transport_error(href, text.lower())
    if "Range downloading not supported" in text:
        return SourceUnreadable(href, "is on a server that does not answer range requests")
    remote = href.lower().startswith("http")
    also = ", or its server does not answer range requests" if remote else ""
    return SourceUnreadable(href, f"is not a readable image ({FORMATS}){also}")


def chain_text(error: BaseException | None) -> str:
    """The texts of an error and of all that led to it; never for a customer, GDAL writes whole addresses."""
    texts: list[str] = []
    while error is not None and len(texts) < 20:
        texts.append(str(error))
        error = error.__cause__ or error.__context__
    return "\n".join(texts)


def _header(dataset: Any) -> tuple[Any, ...]:
    nodata = tuple(None if value is None else str(value) for value in dataset.nodatavals)
    placed = (dataset.shape, dataset.transform, dataset.crs, dataset.dtypes, nodata, dataset.mask_flag_enums)
    return (*placed, dataset.descriptions, dataset.scales, dataset.offsets, dataset.overviews(1))


def _status_error(href: str, status: int) -> SourceError:
    if status == _REFUSED_ON_THE_WAY:
        return SourceRefused(href, "is refused: it leads to a private network or to a host that is not read from here")
    if status in (404, 410):
        return SourceMissing(href, f"does not exist (HTTP {status})")
    if status in (401, 403):
        return SourceUnreadable(href, f"may not be read: its server refused access (HTTP {status})")
    if status >= 500 or status in _RETRY_STATUSES:
        return SourceUnreachable(href, f"cannot be read now: its server answered HTTP {status}")
    return SourceUnreadable(href, f"cannot be read: its server answered HTTP {status}")


def _transport_error(href: str, text: str) -> SourceError:
    if "timed out" in text or "too slow" in text:
        return SourceUnreachable(href, "cannot be read now: its server did not answer in time")
    if "resolve" in text:
        return SourceUnreachable(href, "cannot be read now: its server's name is not known")
    if "ssl" in text or "tls" in text or "certificate" in text:
        return SourceUnreachable(href, "cannot be read now: no secure connection to its server came about")
    return SourceUnreachable(href, "cannot be read now: no connection to its server came about")


def _gdal_path(href: str) -> tuple[str, bool]:
    """The path GDAL is to open, and whether it lies on the network."""
    scheme = href.partition("://")[0].lower() if "://" in href else ""
    if scheme in ("http", "https"):
        if _UNSAFE_CHARACTERS.search(href) or not urlsplit(href).hostname:
            raise SourceRefused(href, "is not a valid web address")
        return f"/vsicurl/{href}", True
    if scheme == "file":
        return _local_path(href, unquote(urlsplit(href).path)), False
    if not scheme and href.startswith("/"):
        return _local_path(href, href), False
    raise SourceRefused(href, "is refused: only http(s) addresses and absolute paths are read")


def _local_path(href: str, path: str) -> str:
    if path.lstrip("/").lower().startswith("vsi") or "\x00" in path:
        raise SourceRefused(href, "is refused: virtual file systems are not read")
    if not Path(path).is_file():
        raise SourceMissing(href, "does not exist")
    return path
