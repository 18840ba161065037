"""What is counted lands once, whatever happens between the meter and the database."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

import psycopg
import pytest

from geopera_server.domains.usage import metering
from geopera_server.domains.usage.metering import Meter
from geopera_server.values.ids import new_id


class Line:
    """Lends connections as the pool does, until it is told to fail: before a statement, or after it when the answer is lost."""

    def __init__(self, pool) -> None:
        self.pool = pool
        self.down = False
        self.answers_lost = 0

    @contextlib.asynccontextmanager
    async def __call__(self):
        if self.down:
            raise psycopg.OperationalError("the database is away")
        async with self.pool.connection() as conn:
            yield conn
            if self.answers_lost:
                self.answers_lost -= 1
                raise psycopg.OperationalError("the connection broke before the answer came")


@pytest.fixture
def line(household) -> Line:
    return Line(household.house.pool)


@pytest.fixture
def meter(line) -> Meter:
    return Meter(line)


@pytest.fixture
def home(household) -> str:
    return household.place.home.organization_id


async def stored(household) -> dict[tuple[str, str, str | None], int]:
    rows = await household.sql("SELECT organization_id, kind, project_id, amount FROM usage_day")
    return {(row["organization_id"], row["kind"], row["project_id"]): row["amount"] for row in rows}


async def test_counts_are_added_up_by_organization_project_and_kind(household, meter, home):
    stranger = household.place.stranger.organization_id
    for _ in range(3):
        meter.count(home, "api_requests")
        meter.count(home, "tile_requests", 2, household.project_id)
        meter.count(stranger, "api_requests", 5)
    assert await meter.flush()
    meter.count(home, "api_requests")
    assert await meter.flush()
    assert await stored(household) == {
        (home, "api_requests", None): 4,
        (home, "tile_requests", household.project_id): 6,
        (stranger, "api_requests", None): 15,
    }
    [row] = await household.sql("SELECT DISTINCT day FROM usage_day")
    assert row["day"] == datetime.now(UTC).date()


async def test_without_an_organization_it_is_that_of_the_project(household, meter, home):
    meter.count(None, "sent_bytes", 10, household.project_id)
    meter.count(home, "sent_bytes", 5, household.project_id)
    assert await meter.flush()
    assert await stored(household) == {(home, "sent_bytes", household.project_id): 15}


async def test_days_are_kept_apart_at_midnight(household, meter, home, monkeypatch):
    for moment in (datetime(2024, 2, 29, 23, 59, 59, tzinfo=UTC), datetime(2024, 3, 1, tzinfo=UTC)):
        monkeypatch.setattr(metering, "now", lambda moment=moment: moment)
        meter.count(home, "tile_requests")
    assert await meter.flush()
    rows = await household.sql("SELECT day::text, amount FROM usage_day ORDER BY day")
    assert [(row["day"], row["amount"]) for row in rows] == [("2024-02-29", 1), ("2024-03-01", 1)]


async def test_a_lost_answer_counts_nothing_twice(household, meter, line, home):
    meter.count(home, "api_requests", 7)
    line.answers_lost = 2
    assert not await meter.flush()
    assert await stored(household) == {(home, "api_requests", None): 7}
    meter.count(home, "api_requests", 1)
    assert not await meter.flush()
    meter.count(home, "api_requests", 1)
    assert await meter.flush()
    assert await stored(household) == {(home, "api_requests", None): 9}
    assert meter.waiting() == {}


async def test_an_outage_keeps_everything_in_one_batch_and_one_in_doubt(household, meter, line, home):
    line.down = True
    for _ in range(20):
        meter.count(home, "tile_requests", 3, household.project_id)
        assert not await meter.flush()
    assert meter.waiting() == {"tile_requests": 60}
    line.down = False
    assert await meter.flush()
    assert await stored(household) == {(home, "tile_requests", household.project_id): 60}
    [writer] = await household.sql("SELECT batch FROM usage_writer")
    assert writer["batch"] == 2


async def test_what_is_kept_in_an_outage_has_an_end(household, meter, line, home, monkeypatch):
    monkeypatch.setattr(metering, "KEPT_AT_MOST", 50)
    line.down = True
    meter.count(home, "tile_requests")
    assert not await meter.flush()
    for _ in range(200):
        meter.count(home, "tile_requests", 2, new_id())
    assert not await meter.flush()
    line.down = False
    assert await meter.flush()
    assert await stored(household) == {(home, "tile_requests", None): 401}


async def test_good_counts_land_and_only_bad_ones_become_dead_letters(household, meter, home):
    nobody, nowhere = new_id(), new_id()
    for number in range(40):
        meter.count(home, "tile_requests", 1 + number, new_id())
    meter.count(nobody, "api_requests", 4)
    meter.count(None, "sent_bytes", 9, nowhere)
    meter.count("no id at all", "api_requests", 2)
    meter.count(home, "api_requests", 6)
    assert await meter.flush()
    counters = await stored(household)
    assert counters[home, "api_requests", None] == 6
    assert sum(amount for (_, kind, _), amount in counters.items() if kind == "tile_requests") == 820
    assert len(counters) == 41
    letters = await household.sql("SELECT source, organization_id, project_id, amount, error FROM usage_dead_letter")
    found = {(row["source"], row["organization_id"], row["project_id"], int(row["amount"])) for row in letters}
    assert found == {
        ("api_requests", nobody, None, 4), ("sent_bytes", None, nowhere, 9), ("api_requests", "no id at all", None, 2),
    }  # fmt: skip
    assert all(row["error"] for row in letters)


async def test_a_lost_answer_after_dead_letters_repeats_nothing(household, meter, line, home):
    meter.count(home, "api_requests", 3)
    meter.count(new_id(), "api_requests", 4)
    line.answers_lost = 1
    assert not await meter.flush()
    assert await meter.flush()
    assert await stored(household) == {(home, "api_requests", None): 3}
    [row] = await household.sql("SELECT count(*) AS letters FROM usage_dead_letter")
    assert row["letters"] == 1


async def test_many_processes_add_to_the_same_counters(household, home):
    meters = [Meter(household.house.pool.connection) for _ in range(6)]
    projects = [new_id() for _ in range(30)]

    async def one(meter: Meter, shift: int) -> None:
        for turn in range(10):
            for number in range(len(projects)):
                meter.count(home, "tile_requests", 1, projects[(number * (shift * 2 + 1) + turn) % len(projects)])
            while not await meter.flush():
                pass

    await asyncio.gather(*(one(meter, shift) for shift, meter in enumerate(meters)))
    counters = await stored(household)
    assert sum(counters.values()) == 6 * 10 * 30
    assert len(counters) == 30


async def test_a_clean_stop_stores_what_is_left(household, meter, line, home):
    meter.start()
    meter.count(home, "api_requests", 3)
    line.answers_lost = 1
    await meter.stop()
    assert await stored(household) == {(home, "api_requests", None): 3}


async def test_a_stop_without_a_database_tells_what_is_lost(household, meter, line, home, caplog):
    meter.count(home, "api_requests", 3)
    line.down = True
    await meter.stop()
    assert "{'api_requests': 3}" in caplog.text
