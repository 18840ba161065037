from __future__ import annotations

import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from geopera_server.raster.errors import SourceUnreadable
from geopera_server.raster.readers import ReaderPool, Target
from geopera_server.raster.render import POOL, Rendering, tile
from support.tiles import decoded, target, tile_over


@pytest.fixture
def pool():
    pool = ReaderPool(max_idle=5, idle_s=60)
    yield pool
    pool.close_idle()


@pytest.fixture
def files(make_raster) -> list[Target]:
    return [target(make_raster(np.full((20, 20), number, "uint8"), f"{number}.tif")) for number in range(1, 31)]


def descriptors_of(folder: Path) -> int:
    """How many files below the folder this process holds open."""
    count = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            count += entry.readlink().is_relative_to(folder)
    return count


def test_a_raster_is_opened_once_for_one_user(pool, files):
    with pool.lent(files[0]) as first:
        pass
    with pool.lent(files[0]) as second:
        assert second is first
    assert pool.open_count() == 1


def test_two_users_never_share_an_open_raster(pool, files):
    with pool.lent(files[0]) as one, pool.lent(files[0]) as other:
        assert one is not other
        assert one.facts is other.facts


def test_readers_in_use_are_used_by_one_thread_alone(files):
    pool, busy, clashes = ReaderPool(), set(), []
    lock = threading.Lock()

    def use(number: int) -> None:
        with pool.lent(files[number % 3]) as reader:
            with lock:
                clashes.extend([reader] if id(reader) in busy else [])
                busy.add(id(reader))
            reader.read((1,), reader.facts.levels[0], _whole(reader))
            with lock:
                busy.remove(id(reader))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(400)))
    assert not clashes
    pool.close_idle()
    assert pool.open_count() == 0


def _whole(reader):
    from geopera_server.raster.tiles.levels import Part

    return Part(0, 0, reader.facts.width, reader.facts.height)


def test_idle_files_are_bounded_and_the_longest_unused_go_first(pool, files, tmp_path):
    for each in files:
        with pool.lent(each):
            assert descriptors_of(tmp_path) <= 6
    assert pool.open_count() == 5
    with pool.lent(files[-5]) as kept:
        assert kept.idle_since > 0
    with pool.lent(files[0]) as opened:
        assert opened.idle_since == 0


def test_a_new_version_closes_the_old_one_also_while_it_is_in_use(pool, files, tmp_path):
    newer = Target(files[0].href, "2")
    with pool.lent(files[0]):
        with pool.lent(newer):
            assert pool.open_count() == 2
    assert pool.open_count() == 1
    with pool.lent(newer) as reader:
        assert reader.target.version == "2"
    assert descriptors_of(tmp_path) == 1


def test_a_file_written_anew_is_seen_under_its_new_version(make_raster):
    rendering = Rendering(rescale=((0, 255),))
    path = make_raster(np.full((40, 40), 50, "uint8"))
    where = tile_over(path, 14)
    assert decoded(tile(target(path, "a"), rendering, *where, format="png"))[..., 0].max() == 50
    replacement = make_raster(np.full((40, 40), 90, "uint8"), "next.tif")
    replacement.replace(path)
    assert decoded(tile(target(path, "b"), rendering, *where, format="png"))[..., 0].max() == 90


def test_what_was_idle_too_long_closes(files, tmp_path):
    pool = ReaderPool(idle_s=0.0)
    with pool.lent(files[0]):
        pass
    with pool.lent(files[1]):
        assert descriptors_of(tmp_path) == 1
    pool.close_idle()
    assert descriptors_of(tmp_path) == 0


def test_a_deleted_file_is_let_go(pool, files, tmp_path):
    with pool.lent(files[0]):
        pool.forget(files[0].href)
        assert pool.open_count() == 1
    assert pool.open_count() == 0
    with pool.lent(files[1]):
        pass
    pool.forget(files[1].href)
    assert descriptors_of(tmp_path) == 0


def test_one_way_to_the_network_is_not_lent_to_another(pool, files):
    strict = Target.on_way(files[0].href, "1", {"GDAL_HTTP_TIMEOUT": "3"})
    with pool.lent(files[0]) as one:
        pass
    with pool.lent(strict) as other:
        assert other is not one


def test_what_cannot_be_opened_leaves_nothing_behind(pool, tmp_path):
    torn = tmp_path / "torn.tif"
    torn.write_bytes(b"II*\0 nothing of this is a TIFF")
    for _ in range(3):
        with pytest.raises(SourceUnreadable), pool.lent(target(torn)):
            pass
    assert pool.open_count() == 0
    assert descriptors_of(tmp_path) == 0


def test_a_reader_that_failed_is_not_used_again(pool, files):
    with pytest.raises(RuntimeError), pool.lent(files[0]):
        raise RuntimeError("in the middle of a read")
    assert pool.open_count() == 0


def test_tiles_are_the_same_from_many_threads(sentinel2, bolzano):
    wished = [
        (target(path), where)
        for path in (sentinel2 / "TCI.tif", bolzano)
        for where in (tile_over(path, z) for z in range(8, 14))
    ]
    alone = [tile(each, Rendering(), *where) for each, where in wished]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda job: tile(job[0], Rendering(), *job[1]), wished * 5))
    assert together == alone * 5


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_memory_stays_flat_over_many_tiles_and_files(files, sentinel2):
    tci = target(sentinel2 / "TCI.tif")
    z, x, y = tile_over(sentinel2 / "TCI.tif", 13)
    small = tile_over(Path(files[0].href), 14)

    def round_of(number: int) -> None:
        tile(tci, Rendering(), z, x + number % 40 - 20, y + number // 40 % 20 - 10)
        tile(files[number % 30], Rendering(), *small)

    for number in range(200):
        round_of(number)
    before = resident_mb()
    for number in range(800):
        round_of(number)
    assert resident_mb() - before < 15
    assert POOL.open_count() <= 48
