"""Checks the books of a deployment."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict

import orjson

from geopera_server.db.pool import make_pool
from geopera_server.db.presence import database_at_work, has_database
from geopera_server.ledger.verifying import Extent, differences, extent_of, one_moment
from geopera_server.settings import Settings
from geopera_server.transports.cli.trouble import Trouble
from geopera_server.values.ids import is_id


def verify_ledger(settings: Settings, *, organization_id: str | None, as_json: bool) -> bool:
    """Prints where the money is not what its entries say, line by line as it is found, and says whether all is well.

    Raises Trouble for an organization or a database that is not there.
    """
    if organization_id is not None and not is_id(organization_id):
        raise _unknown(organization_id)
    if settings.database_url is None and not has_database(settings):
        raise Trouble(f"There is no database in {settings.data_dir}. Give --data the folder of the deployment to verify.")
    with database_at_work(settings) as dsn:
        return asyncio.run(_verified(dsn, organization_id, as_json=as_json))


async def _verified(dsn: str, organization_id: str | None, *, as_json: bool) -> bool:
    found = 0
    async with make_pool(dsn, min_size=1, max_size=1) as pool, pool.connection() as conn, one_moment(conn):
        extent = await extent_of(conn, organization_id)
        if organization_id is not None and not extent.accounts:
            raise _unknown(organization_id)
        async for difference in differences(conn, organization_id):
            found += 1
            sys.stdout.write(f"{_json(asdict(difference)) if as_json else difference}\n")
    if as_json:
        sys.stdout.write(f"{_json({**asdict(extent), 'differences': found})}\n")
    else:
        sys.stdout.write(f"{_summary(extent, found)}\n")
    return found == 0


def _summary(extent: Extent, found: int) -> str:
    verdict = "nothing differs" if found == 0 else f"{found:,} {'difference' if found == 1 else 'differences'}"
    waiting = f"; {extent.waiting:,} charged a moment ago and still to be granted" if extent.waiting else ""
    return f"{extent.accounts:,} accounts, {extent.entries:,} entries: {verdict}{waiting}."


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


def _unknown(organization_id: str) -> Trouble:
    return Trouble(f"There is no organization {organization_id}. Give --organization its id, or leave it out to look at all.")
