"""The composition root: settings become adapters, adapters a kernel, the kernel a running house. Nothing else wires."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg
from psycopg_pool import PoolTimeout
from starlette.routing import Route
from starlette.types import ASGIApp

from geopera_server.adapters.egress.guard import Guard
from geopera_server.adapters.hosts import make_host_for
from geopera_server.adapters.payments import make_processor, practice_of
from geopera_server.adapters.renders import Threads
from geopera_server.adapters.secrets import SettingsSecrets
from geopera_server.adapters.storage.objects import Objects, local_objects, objects_at
from geopera_server.db.pool import Pool, make_pool
from geopera_server.domains.billing import crons
from geopera_server.domains.billing.seed import seed_plans
from geopera_server.domains.catalog.seed import seed_sources
from geopera_server.domains.catalog.store import forget_old_replies
from geopera_server.domains.identity.authenticate import CronCredential, make_authenticator
from geopera_server.domains.identity.oauth.tokens import make_tokens
from geopera_server.domains.identity.upkeep import forget_what_is_over
from geopera_server.domains.payments.upkeep import look_after_charges
from geopera_server.domains.pricing.seed import seed_price_list
from geopera_server.domains.sharing.upkeep import forget_tries
from geopera_server.domains.uploads.upkeep import expire_idle_uploads
from geopera_server.domains.usage.metering import Meter
from geopera_server.domains.usage.upkeep import forget_idle_writers
from geopera_server.kernel import chain, crashing, idempotency, jobs, policy
from geopera_server.kernel.pipeline import Kernel
from geopera_server.kernel.policy import RateCaps
from geopera_server.kernel.registry import Registry, load
from geopera_server.kernel.sealing import SealingKey
from geopera_server.ports import Ports
from geopera_server.settings import Settings, SettingsRefused
from geopera_server.transports.http.app import make_app
from geopera_server.transports.http.files import Files
from geopera_server.transports.http.links import SignedLinks
from geopera_server.transports.http.marketplace import Marketplace
from geopera_server.transports.http.oauth import oauth_routes
from geopera_server.transports.http.payments import PaymentRoutes
from geopera_server.transports.http.schemas import schema_routes
from geopera_server.transports.http.shares import ShareRoutes
from geopera_server.transports.http.stac import StacApi
from geopera_server.transports.http.tiles import TileRoutes
from geopera_server.transports.http.uploads import Uploads
from geopera_server.transports.http.ways import Ways
from geopera_server.values.clock import now

logger = logging.getLogger(__name__)

DOMAINS = "geopera_server.domains"
SEAL_EVERY_S = 0.5
SWEEP_EVERY_S = 60.0
LOOK_AT_CLOCK_EVERY_S = 30.0
LOOK_AFTER_CHARGES_EVERY_S = 3.0
RESTART_AFTER_S = 1.0


@dataclass(slots=True)
class House:
    """A running deployment."""

    settings: Settings
    dsn: str
    pool: Pool
    kernel: Kernel
    registry: Registry
    store: Objects
    links: SignedLinks
    meter: Meter
    asgi: ASGIApp


@contextlib.asynccontextmanager
async def opened(settings: Settings, dsn: str, *, base_url: str) -> AsyncIterator[House]:
    """Yields a house over a migrated database: kernel and application, with nothing running in the background yet."""
    crashing.arm(settings.crash_at)
    pool = make_pool(dsn, max_size=settings.pool_size)
    await pool.open(wait=True)
    try:
        await _require_same_secret(pool, settings)
        store = _store(settings)
        links = SignedLinks(settings.public_url or base_url, settings.key_for("links"))
        tokens = make_tokens(settings)
        meter = Meter(pool.connection)
        guard = _guard(settings)
        renders = Threads(threads=settings.tile_threads, cache_bytes=settings.tile_cache_bytes)
        async with (
            guard.open(),
            contextlib.aclosing(renders),
            make_host_for(pool.connection, settings) as host_for,
            make_processor(settings, pool.connection) as processor,
        ):
            kernel = Kernel(
                pool=pool,
                ports=Ports(
                    connect=pool.connection,
                    host_for=host_for,
                    store=store,
                    meter=meter,
                    addresses=guard,
                    renders=renders,
                    processor=processor,
                    source_roots=source_roots(settings),
                    scratch=_scratch(settings),
                ),
                links=links,
                secrets=SettingsSecrets(settings),
                authenticate=make_authenticator(tokens, settings.key_for("api_keys"), cron=_cron_credential(settings)),
                caps=RateCaps(
                    default=settings.rate_default,
                    placement=settings.rate_placement,
                    spend=settings.rate_spend,
                    public=settings.rate_public,
                    tiles=settings.rate_tiles,
                    public_tiles=settings.rate_public_tiles,
                ),
                check_replies=settings.check_replies,
            )
            registry = load(DOMAINS)
            files = Files(store, links, meter)
            routes = [
                *_more_ways(Ways(kernel, registry), files, max_body_bytes=settings.max_body_bytes),
                *oauth_routes(kernel, settings, tokens),
                *files.routes(),
                *Uploads(kernel).routes(),
                *schema_routes(links.base_url),
                *PaymentRoutes(kernel, registry, practice_of(processor)).routes(),
            ]
            asgi = make_app(kernel, registry, max_body_bytes=settings.max_body_bytes, more_routes=routes)
            yield House(settings, dsn, pool, kernel, registry, store, links, meter, asgi)
    finally:
        await pool.close()


def _more_ways(ways: Ways, files: Files, *, max_body_bytes: int) -> list[Route]:
    """Returns the addresses of operations that clients of other kinds know."""
    return [
        *TileRoutes(ways).routes(),
        *ShareRoutes(ways, files).routes(),
        *Marketplace(ways, max_body_bytes=max_body_bytes).routes(),
        *StacApi(ways, ways.kernel.links, max_body_bytes=max_body_bytes).routes(),
    ]


async def seed(pool: Pool) -> None:
    """Brings what every deployment starts with, sources, price list and plans, to this version; again changes nothing."""
    async with pool.connection() as conn, conn.transaction():
        await seed_sources(conn)
        await seed_price_list(conn)
        await seed_plans(conn)


@contextlib.asynccontextmanager
async def background(house: House) -> AsyncIterator[None]:
    """Does what goes on beside the calls: audit rows always; jobs, sealing and sweeping where the settings say so."""
    kernel, settings = house.kernel, house.settings
    kernel.reads_audit.start()
    house.meter.start()
    tasks = [asyncio.create_task(jobs.ring_for(kernel), name="ring")]
    worker = working = None
    if settings.background:
        handlers: dict[str, jobs.JobHandler] = {}
        worker = jobs.Worker(
            kernel,
            handlers,
            dsn=house.dsn,
            slots=settings.worker_slots,
            lease_s=settings.lease_s,
            attempts=settings.job_attempts,
        )
        key = SealingKey(settings.key_for("lineage"))
        tasks += [
            asyncio.create_task(_every(SEAL_EVERY_S, "sealing", lambda: _seal(house, key)), name="sealer"),
            asyncio.create_task(_every(SWEEP_EVERY_S, "sweeping", lambda: _sweep(house)), name="sweeper"),
            asyncio.create_task(
                _every(SWEEP_EVERY_S, "ending idle uploads", lambda: _expire_idle_uploads(house)), name="idle-uploads"
            ),
            asyncio.create_task(
                _every(LOOK_AFTER_CHARGES_EVERY_S, "looking after charges", lambda: _look_after_charges(house)), name="charges"
            ),
        ]
        if settings.crons:
            due = functools.partial(crons.run_due, kernel, house.registry)
            tasks.append(asyncio.create_task(_every(LOOK_AT_CLOCK_EVERY_S, "what is due", due), name="clock"))
        working = asyncio.create_task(_keep_working(worker, handlers), name="worker")
    try:
        yield
    finally:
        if worker is not None and working is not None:
            worker.stop()
            await working
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await kernel.reads_audit.stop()
        await house.meter.stop()


async def _keep_working(worker: jobs.Worker, handlers: dict[str, jobs.JobHandler]) -> None:
    """Runs the worker until it is stopped; a defect in it is told and does not leave jobs lying."""
    while True:
        try:
            # What jobs need, rasterio above all, takes a tenth of the whole start to load, and no call waits for it.
            handlers.update(await asyncio.to_thread(jobs.load_handlers, DOMAINS))
            await worker.run()
        except Exception:
            logger.exception("the worker broke and begins anew")
            await asyncio.sleep(RESTART_AFTER_S)
        else:
            return


async def _every(seconds: float, what: str, step: Callable[[], Awaitable[None]]) -> None:
    """Repeats a step until cancelled; a failure is told once and does not end it."""
    waits = False
    while True:
        try:
            await step()
            waits = False
        except (psycopg.Error, PoolTimeout, OSError) as error:
            if not waits:
                logger.warning("%s waits: the database does not answer (%s)", what, error)
            waits = True
        except Exception:
            logger.exception("%s broke and is tried again", what)
        await asyncio.sleep(seconds)


async def _seal(house: House, key: SealingKey) -> None:
    async with house.pool.connection() as conn:
        while await chain.seal(conn, key):
            pass


async def _look_after_charges(house: House) -> None:
    await look_after_charges(house.kernel, house.registry)


async def _expire_idle_uploads(house: House) -> None:
    await expire_idle_uploads(house.kernel)


async def _sweep(house: House) -> None:
    at = now()
    async with house.pool.connection() as conn:
        await policy.forget_old_windows(conn, at - timedelta(minutes=5))
        await idempotency.forget_expired(conn, at)
        await forget_old_replies(conn, at - timedelta(days=7))
        await forget_what_is_over(conn, before=at - timedelta(days=1))
        await forget_idle_writers(conn, at - timedelta(days=30))
        await forget_tries(conn, at)


async def _require_same_secret(pool: Pool, settings: Settings) -> None:
    """Raises SettingsRefused where the database was first used under another secret.

    A process with another one could neither read the keys and tokens there nor sign lineage that anybody would believe.
    """
    fingerprint = settings.key_for("deployment").hex()
    async with pool.connection() as conn:
        await conn.execute("INSERT INTO deployment (secret_fingerprint) VALUES (%s) ON CONFLICT DO NOTHING", (fingerprint,))
        row = await (await conn.execute("SELECT secret_fingerprint FROM deployment")).fetchone()
    if row is None or row["secret_fingerprint"] != fingerprint:
        raise SettingsRefused(
            "This database belongs to a deployment with another secret. Give every process the same GEOPERA_SECRET, or the"
            " same --data folder, and the same GEOPERA_STORAGE_URL and GEOPERA_SOURCE_ROOTS."
        )


def _cron_credential(settings: Settings) -> CronCredential | None:
    if settings.cron_secret is None:
        return None
    return CronCredential(secret=settings.cron_secret.get_secret_value().encode(), principal=crons.clock())


def _guard(settings: Settings) -> Guard:
    try:
        return Guard(settings.raster_hosts)
    except ValueError as error:
        raise SettingsRefused(f"GEOPERA_RASTER_HOSTS: {error}.") from error


def _store(settings: Settings) -> Objects:
    if settings.storage_url is not None:
        return objects_at(settings.storage_url)
    return local_objects((settings.data_dir / "objects").resolve())


def _scratch(settings: Settings) -> Path:
    """Returns the folder for work in progress, without what processes that are no more have left in it."""
    folder = (settings.data_dir / "scratch").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        if not _is_running(left.name.partition("-")[0]):
            shutil.rmtree(left, ignore_errors=True)
    return folder


def _is_running(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return True


def source_roots(settings: Settings) -> tuple[Path, ...]:
    """Returns the folders that scenes may name files in; the data folder's own `sources` is always one."""
    return tuple(root.resolve() for root in (settings.data_dir / "sources", *settings.source_roots))
