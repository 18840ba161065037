"""`kill -9` loses at most the counts of the last seconds, and no count is ever added twice."""

from __future__ import annotations

import time

import httpx
import psycopg

from geopera_server.domains.usage.metering import FLUSH_EVERY_S
from support.processes import up

SETTLED, LATE, AFTER = 40, 8, 5


def calls(http: httpx.Client, count: int) -> None:
    for _ in range(count):
        assert http.post("/v1/op/billing.credits.balance").status_code == 200


def counted(database: str) -> int:
    with psycopg.connect(database) as conn:
        [row] = conn.execute("SELECT coalesce(sum(amount), 0)::int FROM usage_day WHERE kind = 'api_requests'").fetchall()
        return row[0]


def until_counted(database: str, count: int, *, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while counted(database) != count:
        assert time.monotonic() < deadline, f"{counted(database)} of {count} calls are counted after {within_s} s"
        time.sleep(0.05)


def test_killed_while_calls_are_counted(database, place, tmp_path, shared_data):
    headers = {"Authorization": f"Bearer {place.home.api_key}"}
    with up(tmp_path, database, shared_data) as first, httpx.Client(base_url=first.ready_url(), headers=headers) as http:
        calls(http, SETTLED)
        until_counted(database, SETTLED, within_s=FLUSH_EVERY_S + 3)
        calls(http, LATE)
        first.popen.kill()
        assert first.was_killed()
    survived = counted(database)
    assert SETTLED <= survived <= SETTLED + LATE
    with up(tmp_path, database, shared_data) as second, httpx.Client(base_url=second.ready_url(), headers=headers) as http:
        calls(http, AFTER)
        assert second.terminate() == 0
    assert counted(database) == survived + AFTER
