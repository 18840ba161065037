"""NetCDF as models and archives write it: variables, axes, times, and what HDF5 underneath may not do."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pytest
import rasterio

from geopera_server.raster import ingest


def write_grid(
    path: Path, variables: dict[str, np.ndarray], *, south_up: bool = False, times: list[float] | None = None
) -> Path:
    """Writes (lat, lon) or (time, lat, lon) variables over 10..13.5 E, 50..52 N in half degrees."""
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"lat": 4, "lon": 7} | ({"time": len(times)} if times else {})
        lat = file.create_variable("lat", ("lat",), "f8")
        lat[:] = np.array([50.25, 50.75, 51.25, 51.75] if south_up else [51.75, 51.25, 50.75, 50.25])
        lat.attrs.update({"units": "degrees_north", "standard_name": "latitude"})
        lon = file.create_variable("lon", ("lon",), "f8")
        lon[:] = np.arange(10.25, 13.5, 0.5)
        lon.attrs.update({"units": "degrees_east", "standard_name": "longitude"})
        if times:
            time = file.create_variable("time", ("time",), "f8")
            time[:] = np.array(times)
            time.attrs.update({"units": "days since 2020-01-01 12:00:00", "calendar": "standard", "standard_name": "time"})
        for name, values in variables.items():
            axes = ("time", "lat", "lon") if values.ndim == 3 else ("lat", "lon")
            file.create_variable(name, axes, values.dtype, data=values, fillvalue=values.dtype.type(-99))
    return path


@pytest.fixture
def field() -> np.ndarray:
    return np.arange(28, dtype=np.float32).reshape(4, 7)


@pytest.mark.parametrize("south_up", [False, True], ids=["north-up", "south-up"])
def test_a_variable_lies_where_its_axes_say(tmp_path, field, south_up):
    path = write_grid(tmp_path / "grid.nc", {"ndvi": field[::-1] if south_up else field}, south_up=south_up)
    inspection = ingest.inspect([path], given_epsg=4326)
    assert (inspection.format, inspection.variable, inspection.band_names) == ("NetCDF-4", "ndvi", ("ndvi",))
    assert inspection.info.bbox_wgs84 == (10.0, 50.0, 13.5, 52.0)
    assert inspection.info.nodata == -99
    ingest.convert(inspection, tmp_path / "cog.tif")
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert np.array_equal(dataset.read(1), field)


def test_moments_become_bands(tmp_path, field):
    path = write_grid(tmp_path / "series.nc", {"ndvi": np.stack([field, field + 1, field + 2])}, times=[0, 30.5, 366])
    inspection = ingest.inspect([path], given_epsg=4326)
    assert inspection.band_names == ("2020-01-01T12:00:00Z", "2020-02-01T00:00:00Z", "2021-01-01T12:00:00Z")
    assert inspection.acquired == datetime(2020, 1, 1, 12, tzinfo=UTC)
    info = ingest.convert(inspection, tmp_path / "cog.tif")
    assert [each["max"] for each in info.statistics] == [27, 28, 29]


def test_of_several_variables_one_is_named(tmp_path, field):
    path = write_grid(tmp_path / "two.nc", {"ndvi": field, "quality": field + 5})
    with pytest.raises(ingest.IngestRefused, match="ndvi, quality") as refused:
        ingest.inspect([path], given_epsg=4326)
    assert refused.value.code == "ambiguous_content"
    with pytest.raises(ingest.IngestRefused, match="no variable 'evi'"):
        ingest.inspect([path], given_epsg=4326, variable="evi")
    inspection = ingest.inspect([path], given_epsg=4326, variable="quality")
    assert ingest.convert(inspection, tmp_path / "cog.tif").statistics[0]["min"] == 5


def test_classic_netcdf_is_read(make, ramp, tmp_path):
    path = make(ramp.astype(np.int16), "classic.nc", driver="netCDF", FORMAT="NC")
    inspection = ingest.inspect([path])
    assert (inspection.format, inspection.info.epsg) == ("NetCDF", 32629)
    ingest.convert(inspection, tmp_path / "cog.tif")
    with rasterio.open(tmp_path / "cog.tif") as dataset:
        assert np.array_equal(dataset.read(1), ramp)


@pytest.mark.parametrize("form", ["NC", "NC4"])
def test_a_truncated_file_is_refused(make, tmp_path, form):
    whole = make(
        np.random.default_rng(0).integers(0, 9999, (200, 300), dtype=np.int16), "whole.nc", driver="netCDF", FORMAT=form
    )
    cut = tmp_path / "cut.nc"
    cut.write_bytes(whole.read_bytes()[:-20_000])
    with pytest.raises(ingest.IngestRefused) as refused:
        ingest.inspect([cut])
    assert refused.value.code == "damaged_file"


def external_bytes(path: Path, secret: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_dataset("stolen", (4, 7), "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])


def external_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "a") as file:
        file.create_group("deep")["stolen"] = h5py.ExternalLink(str(secret), "/ndvi")


def virtual_dataset(path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((4, 7), "f4")
    layout[:] = h5py.VirtualSource(str(secret), "ndvi", (4, 7))
    with h5py.File(path, "a") as file:
        file.create_virtual_dataset("stolen", layout)


@pytest.mark.parametrize("plant", [external_bytes, external_link, virtual_dataset])
def test_data_kept_in_another_file_is_refused(tmp_path, field, plant):
    secret = write_grid(tmp_path / "secret.nc", {"ndvi": field})
    path = write_grid(tmp_path / "grid.nc", {"ndvi": field})
    plant(path, secret)
    with pytest.raises(ingest.IngestRefused, match="stolen") as refused:
        ingest.inspect([path], given_epsg=4326)
    assert refused.value.code == "outside_reference"


def test_a_filter_that_would_be_loaded_is_refused(tmp_path, field):
    path = write_grid(tmp_path / "grid.nc", {"ndvi": field})
    with h5py.File(path, "a") as file:
        created = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        created.set_chunk((4, 7))
        created.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
        h5py.h5d.create(file.id, b"packed", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((4, 7)), created)
    with pytest.raises(ingest.IngestRefused, match="filter 32015") as refused:
        ingest.inspect([path], given_epsg=4326)
    assert refused.value.code == "unsupported_format"


def test_curvilinear_coordinates_are_no_place_on_a_map(tmp_path, field):
    path = tmp_path / "swath.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"y": 4, "x": 7}
        for name in ("lat", "lon", "sst"):
            file.create_variable(name, ("y", "x"), "f4", data=field)
        file["sst"].attrs["coordinates"] = "lat lon"
    with pytest.raises(ingest.IngestRefused) as refused:
        ingest.inspect([path], given_epsg=4326)
    assert refused.value.code in ("no_georeference", "needs_rectification")
