"""Makes GDAL forget every driver but those an upload needs, and every way to the network."""

from __future__ import annotations

import ctypes
from collections.abc import Collection
from types import ModuleType

# Files may make GDAL open further ones (an overview file, say): then any driver left could be the one.
RASTER_DRIVERS = frozenset({"GTiff", "COG", "MEM", "JP2OpenJPEG", "PNG", "JPEG", "WEBP", "netCDF", "AAIGrid"})
VECTOR_DRIVERS = frozenset({"GeoJSON", "GPKG", "ESRI Shapefile", "KML", "FlatGeobuf", "MEM", "Memory"})


def keep_only(names: Collection[str], extension: ModuleType) -> None:
    """Removes all other drivers from the GDAL that a compiled module, such as rasterio._env, is linked with."""
    gdal = ctypes.CDLL(extension.__file__)
    gdal.GDALGetDriver.restype = ctypes.c_void_p
    gdal.GDALGetDriverShortName.restype = ctypes.c_char_p
    gdal.GDALAllRegister()
    for place in reversed(range(gdal.GDALGetDriverCount())):
        driver = ctypes.c_void_p(gdal.GDALGetDriver(place))
        if gdal.GDALGetDriverShortName(driver).decode() not in names:
            gdal.GDALDeregisterDriver(driver)
    # For systems without network confinement: the one name that may be fetched is none.
    gdal.CPLSetConfigOption(b"CPL_VSIL_CURL_ALLOWED_FILENAME", b"none")
    gdal.CPLSetConfigOption(b"GDAL_HTTP_PROXY", b"127.0.0.1:1")
    gdal.CPLSetConfigOption(b"GDAL_HTTPS_PROXY", b"127.0.0.1:1")
    gdal.CPLSetConfigOption(b"GDAL_NETCDF_VERIFY_DIMS", b"STRICT")
