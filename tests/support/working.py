"""Background work done at once, in houses where nothing runs in the background."""

from __future__ import annotations

from geopera_server.app import DOMAINS
from geopera_server.kernel.jobs import JobRun, load_handlers
from support.house import Household


async def do_jobs(household: Household, kind: str) -> int:
    """Does the queued jobs of a kind now, due or not, as a worker would, once each; returns how many they were."""
    rows = await household.sql(
        "UPDATE job SET state = 'running', attempt = attempt + 1, leased_until = now() + interval '1 minute'"
        " WHERE kind = %s AND state = 'queued' RETURNING *",
        kind,
    )
    handler = load_handlers(DOMAINS)[kind]
    for row in rows:
        names = ("id", "kind", "organization_id", "entity_id", "payload", "attempt", "failures")
        await handler(JobRun(**{name: row[name] for name in names}, max_attempts=5, kernel=household.house.kernel))
    return len(rows)


async def stored(household: Household, path: str, content: bytes = b"x" * 1_000) -> str:
    """Stores an object and returns its path."""
    source = household.house.settings.data_dir / "source"
    source.write_bytes(content)
    await household.house.store.put_file(path, source)
    return path


async def objects_in(household: Household, folder: str) -> list[str]:
    """Returns the paths of all objects below a folder, sorted."""
    return sorted([found.path async for found in household.house.store.list(folder)])
