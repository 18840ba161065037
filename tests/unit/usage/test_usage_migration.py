"""A deployment that has stored and downloaded before usage was counted finds it counted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg.rows import dict_row

from geopera_server.db import migrate as migrations
from geopera_server.values.ids import new_id

USAGE = "0011_usage.sql"


@pytest.fixture
def older(cluster, monkeypatch):
    """A database as it was before; returns its address and what brings it to the present."""
    dsn = cluster.create_database()
    every = migrations.known_migrations()
    monkeypatch.setattr(migrations, "known_migrations", lambda: [one for one in every if one.name < USAGE])
    migrations.migrate(dsn)
    monkeypatch.setattr(migrations, "known_migrations", lambda: [one for one in every if one.name <= USAGE])
    yield dsn
    cluster.drop_database(dsn)


def test_what_was_there_before_is_counted(older):
    home, project_id, item_id, at = new_id(), new_id(), new_id(), datetime(2024, 2, 28, 18, tzinfo=UTC)
    with psycopg.connect(older, autocommit=True, row_factory=dict_row) as conn:
        conn.execute(
            "INSERT INTO organization (id, name, slug, created_at, updated_at) VALUES (%s, 'o', 'o', now(), now())", (home,)
        )
        conn.execute(
            "INSERT INTO project (id, organization_id, name, region, storage_prefix, created_at, updated_at)"
            " VALUES (%s, %s, 'p', 'au', 'p', now(), now())",
            (project_id, home),
        )
        conn.execute(
            "INSERT INTO item (id, organization_id, project_id, stac_id, type, name, period, created_at, updated_at)"
            " VALUES (%s, %s, %s, 'i', 'derived_raster', 'i', '[2024-01-01,2024-01-02]', now(), now())",
            (item_id, home, project_id),
        )
        kept = new_id()
        stored = ((kept, 1000, False, None), (new_id(), 300, False, timedelta(days=1)), (new_id(), 50, True, None))
        for number, (asset_id, size, external, lived) in enumerate(stored):
            made = at + timedelta(hours=number)
            ended = None if lived is None else made + lived
            conn.execute(
                "INSERT INTO asset (id, organization_id, project_id, item_id, key, href, external, media_type, file_name,"
                " file_size_bytes, created_at, updated_at, deleted_at)"
                " VALUES (%s, %s, %s, %s, %s, 'h', %s, 'image/tiff', 'f', %s, %s, %s, %s)",
                (asset_id, home, project_id, item_id, str(number), external, size, made, made, ended),
            )
        for hours in (0, 1, 10):
            conn.execute(
                "INSERT INTO egress_grant VALUES (%s, %s, %s, 1000, %s, %s)",
                (kept, new_id(), home, at + timedelta(hours=hours), at),
            )
        assert USAGE in migrations.migrate(older)
        total = conn.execute("SELECT bytes, ledger_bytes FROM storage_total WHERE organization_id = %s", (home,)).fetchone()
        project = conn.execute("SELECT bytes FROM storage_of_project WHERE project_id = %s", (project_id,)).fetchone()
        days = conn.execute(
            "SELECT day::text, bytes_delta, bytes_peak, byte_seconds::bigint FROM storage_day WHERE organization_id = %s"
            " ORDER BY day",
            (home,),
        ).fetchall()
        egress = conn.execute(
            "SELECT day::text, kind, project_id, amount FROM usage_day WHERE organization_id = %s ORDER BY day", (home,)
        ).fetchall()
    assert total == {"bytes": 1000, "ledger_bytes": 1000}
    assert project == {"bytes": 1000}
    assert [tuple(day.values()) for day in days] == [
        ("2024-02-28", 1300, 1300, 1000 * 6 * 3600 + 300 * 5 * 3600), ("2024-02-29", -300, 1300, -300 * 5 * 3600),
    ]  # fmt: skip
    assert [tuple(day.values()) for day in egress] == [
        ("2024-02-28", "egress_bytes", project_id, 2000), ("2024-02-29", "egress_bytes", project_id, 1000),
    ]  # fmt: skip
