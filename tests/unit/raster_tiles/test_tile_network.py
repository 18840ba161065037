from __future__ import annotations

import pytest

from geopera_server.raster.errors import SourceUnreachable, SourceUnreadable
from geopera_server.raster.readers import POOL, Target
from geopera_server.raster.render import Rendering, info, statistics, tile
from support.http_files import HttpFiles
from support.tiles import target, tile_over

PLAIN = Rendering()


@pytest.fixture
def served(sentinel2):
    with HttpFiles(sentinel2) as files:
        yield files
        POOL.close_idle()


def test_a_raster_on_the_network_gives_the_same_tiles(served, sentinel2):
    remote = Target(served.url("TCI.tif"), "1")
    for zoom in (7, 9, 12):
        where = tile_over(sentinel2 / "TCI.tif", zoom)
        assert tile(remote, PLAIN, *where) == tile(target(sentinel2 / "TCI.tif"), PLAIN, *where)


def test_the_header_is_fetched_once_for_many_tiles(served, sentinel2):
    remote = Target(served.url("B04.tif"), "1")
    z, x, y = tile_over(sentinel2 / "B04.tif", 12)
    ranged = Rendering(rescale=((0, 5000),))
    tile(remote, ranged, z, x, y)
    before = len(served.requests)
    for step in range(1, 5):
        tile(remote, ranged, z + 4, (x << 4) + step, y << 4)
    assert len(served.requests) == before, "what was decoded for one tile is asked for again"


def test_what_is_not_there_and_who_does_not_answer_are_told_apart(served):
    with pytest.raises(SourceUnreadable, match="does not exist"):
        info(Target(served.url("nothing.tif"), "1"))
    served.status("SCL.tif", 404)
    with pytest.raises(SourceUnreadable):
        statistics(Target(served.url("SCL.tif"), "1"))


def test_a_server_that_fails_in_the_middle_is_told_and_the_next_tile_heals(served, sentinel2):
    remote = Target(served.url("B08.tif"), "1")
    where = tile_over(sentinel2 / "B08.tif", 12)
    ranged = Rendering(rescale=((0, 5000),))
    info(remote)
    served.status("B08.tif", 404)
    with pytest.raises((SourceUnreadable, SourceUnreachable)):
        tile(remote, ranged, *where)
    served.heal("B08.tif")
    assert tile(remote, ranged, *where) == tile(target(sentinel2 / "B08.tif"), ranged, *where)
