"""`kill -9` at every named point of copying an item: a copy is whole or not there, and no file is left without a name."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from geopera_server.kernel.crashing import COPY_POINTS
from support.deliveries import asset, deliver, item
from support.house import inhabited
from support.processes import up

FILES = {"data": b"x" * 1_000, "thumbnail": b"y" * 24}


@pytest.fixture
async def source(database, place, tmp_path):
    """An item with two files in storage, nobody serving it; returns its id."""
    async with inhabited(database, place, tmp_path) as household:
        folder = f"projects/{household.project_id}/items/source"
        for key, content in FILES.items():
            (tmp_path / "file").write_bytes(content)
            await household.house.store.put_file(f"{folder}/{key}.tif", tmp_path / "file")
        files = [asset(key, href=f"{folder}/{key}.tif", file_size_bytes=len(content)) for key, content in FILES.items()]
        made = await household.owner.run(deliver, {"item": item(household.project_id), "assets": files})
    return made["id"]


def duplicate(url: str, place, item_id: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {place.home.api_key}", "Idempotency-Key": "crash"}
    return httpx.post(f"{url}/v1/op/items.duplicate", json={"item_id": item_id}, headers=headers, timeout=30)


@pytest.mark.parametrize("point", COPY_POINTS)
def test_killed_at(point, source, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point) as first:
        with pytest.raises(httpx.TransportError):
            duplicate(first.ready_url(), place, source)
        assert first.was_killed(), f"the point {point} was not reached"
    make_due(database)
    with up(tmp_path, database, shared_data) as second:
        url = second.ready_url()
        until_nothing_is_open(database)
        assert files_and_names(database, tmp_path) == (2, 2), "what the killed copy left is gone"
        made = duplicate(url, place, source)
        assert made.status_code == 200, made.text
        assert second.terminate() == 0
    assert files_and_names(database, tmp_path) == (4, 4)


def make_due(database: str) -> None:
    """Lets the time pass that a copy may take."""
    with psycopg.connect(database) as conn:
        changed = conn.execute("UPDATE job SET run_after = now() WHERE kind = 'items.copies.forget' AND state = 'queued'")
        assert changed.rowcount == 1


def until_nothing_is_open(database: str, *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    with psycopg.connect(database, autocommit=True) as conn:
        while conn.execute("SELECT 1 FROM job WHERE state IN ('queued', 'running')").fetchone():
            assert time.monotonic() < deadline, "the copies are not removed"
            time.sleep(0.1)


def files_and_names(database: str, data_dir: Path) -> tuple[int, int]:
    """Returns how many objects there are, each checked against the row that names it, and how many rows name one."""
    root = data_dir / "objects"
    found = {str(path.relative_to(root)): path.stat().st_size for path in root.rglob("*") if path.is_file()}
    with psycopg.connect(database, row_factory=dict_row) as conn:
        rows = conn.execute("SELECT href, file_size_bytes FROM asset WHERE deleted_at IS NULL AND NOT external").fetchall()
        total = conn.execute("SELECT sum(bytes) AS bytes FROM storage_total").fetchone()
    assert {row["href"]: row["file_size_bytes"] for row in rows} == found
    assert total["bytes"] == sum(found.values())
    return len(found), len(rows)
