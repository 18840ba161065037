"""The GDAL options all raster work runs under."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import rasterio
import rasterio.env

from geopera_server.raster.errors import shown_href

MEGABYTE = 1_000_000

OPTIONS: dict[str, Any] = {
    # A listing of the folder would cost a request, and would let files beside the source change what it means.
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GDAL_TIFF_INTERNAL_MASK": "YES",
    # Bytes, and one limit for the whole process: rasterio hands it to GDAL's setter. GDAL's own default is 5 % of RAM.
    "GDAL_CACHEMAX": 64 * MEGABYTE,
    # A dead server is noticed by silence rather than by a short total time: one request may carry many megabytes.
    "GDAL_HTTP_CONNECTTIMEOUT": "10",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1000",
    "GDAL_HTTP_LOW_SPEED_TIME": "20",
    "GDAL_HTTP_TIMEOUT": "180",
    "GDAL_HTTP_MAX_RETRY": "3",
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_MULTIRANGE": "YES",
    "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
    "GDAL_HTTP_NETRC": "NO",
    "GDAL_HTTP_USERAGENT": "geopera-server",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    # Without this a 404, a 500 or an old content stays in the process's cache, and no retry would ever see a change.
    "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/",
}


_WEB_ADDRESS = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)
_QUERY = re.compile(r"\?[\w.~%-]+=[^\s'\"<>]*")


class HiddenQueries(logging.Filter):
    """Takes passwords and signatures out of the web addresses that GDAL writes into its warnings."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _QUERY.sub("", _WEB_ADDRESS.sub(lambda found: shown_href(found[0]), record.getMessage()))
        record.args = ()
        return True


for _name in ("rasterio._env", "rasterio._err", "rasterio._base", "rasterio._io"):
    logging.getLogger(_name).addFilter(HiddenQueries())


@contextmanager
def gdal_env(**overrides: Any) -> Iterator[None]:
    """Runs the block under `OPTIONS`; what a surrounding environment has set wins over them, `overrides` over both.

    CPL_VSIL_CURL_ALLOWED_EXTENSIONS stays unset on purpose: signed and generated addresses have no extension.
    """
    surrounding = rasterio.env.getenv() if rasterio.env.hasenv() else {}
    with rasterio.Env(**{**OPTIONS, **surrounding, **overrides}):
        yield
