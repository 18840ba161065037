"""What a spend costs: `fund` through the kernel against the same rows written by hand, on one wallet and on many.

The bare sides write what an operation that pays for one order leaves behind, in one transaction with its statements pipelined:
once all of it (idempotency, hold, ledger entry with its triggers, alarm, audit), once only the ledger's two rows. All run in
one process over one connection pool, in turn, round by round; the ratios of each round are taken and their medians printed.
Run with `make bench`.
"""

from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]

from geopera_server.app import House
from geopera_server.domains.identity.bootstrap import create_organization
from geopera_server.kernel.principal import Principal
from geopera_server.ledger import postings
from geopera_server.values.clock import now
from geopera_server.values.ids import new_id
from machine import described
from support import paying
from support.cards import save_card
from support.house import inhabited
from support.postgres import TestCluster
from support.serving import prepared_template

ROUNDS = 5
SPENDS = 320
TOPUPS = 60
WALLETS = 64
CLIENTS = (1, 4, 16)
PLENTY = 2_000_000_000

Spender = Callable[[str], Awaitable[None]]

HOLD = "INSERT INTO ledger_hold (id, organization_id, order_id, created_at) VALUES (%s, %s, %s, %s)"
ENTRY = (
    "INSERT INTO ledger_entry (id, organization_id, created_at, reason, credits, reserved_delta, hold_id, order_id, principal_id,"
    " invocation_id, external_ref, balance_after, reserved_after, number)"
    " VALUES (%s, %s, %s, 'reserve', -100, 100, %s, %s, %s, %s, %s, 0, 0, 0)"
)
AUDIT = (
    "INSERT INTO audit_event (invocation_id, at, operation_id, side_effect, scope, principal_type, principal_id, organization_id,"
    " status, outcome, duration_ms, entities, input_digest, idempotency_key_hash, replayed)"
    " VALUES (%s, %s, 'tests.spend', 'external_spend', 'orders:write', 'user', %s, %s, 200, 'ok', 1.0, '[]', %s, %s, false)"
)
REPLY = (
    "INSERT INTO idempotency_record (organization_id, operation_id, key, fingerprint, status, media_type, body, invocation_id,"
    " created_at) VALUES (%s, 'tests.spend', %s, %s, 200, 'application/json', %s, %s, %s)"
)


class Bench:
    """One house with its wallets, and three ways of taking 100 credits from one of them."""

    def __init__(self, house: House, user_id: str) -> None:
        self.house, self.user_id = house, user_id
        self.wallets: list[str] = []
        self._key = itertools.count()

    async def open_wallets(self, count: int) -> None:
        async with self.house.pool.connection() as conn, conn.transaction():
            for _ in range(count):
                made = await create_organization(conn, name=f"Wallet {new_id()}", owner_id=None, at=now())
                organization_id = made.organization["id"]
                cause = postings.Cause(organization_id=organization_id, invocation_id=new_id(), at=now())
                posting = postings.Posting(reason="operator_grant", credits=PLENTY, external_ref=new_id())
                await postings.post(conn, cause, posting)
                self.wallets.append(organization_id)

    def owner(self, organization_id: str) -> Principal:
        scopes = frozenset({"*:read", "*:write"})
        return Principal(
            kind="user", id=self.user_id, organization_id=organization_id, organization_role="owner", scopes=scopes
        )

    async def ours(self, organization_id: str) -> None:
        key = f"k{next(self._key)}"
        await paying.run(self.house, self.owner(organization_id), paying.spend, key=key, order_id=new_id(), credits=100)

    async def all_rows(self, organization_id: str) -> None:
        await self._bare(organization_id, whole=True)

    async def ledger_rows(self, organization_id: str) -> None:
        await self._bare(organization_id, whole=False)

    async def _bare(self, organization_id: str, *, whole: bool) -> None:
        at, hold_id, order_id, invocation_id = now(), new_id(), new_id(), new_id()
        entry = (new_id(), organization_id, at, hold_id, order_id, self.user_id, invocation_id, hold_id)
        digest = b"\0" * 32
        async with self.house.pool.connection() as conn, conn.pipeline(), conn.transaction():
            await conn.execute(HOLD, (hold_id, organization_id, order_id, at))
            await conn.execute(ENTRY, entry)
            if whole:
                key = f"b{next(self._key)}"
                await conn.execute(AUDIT, (invocation_id, at, self.user_id, organization_id, digest.hex(), key))
                await conn.execute(REPLY, (organization_id, key, digest, b"{}", invocation_id, at))

    async def topup(self, organization_id: str) -> None:
        call = self.house.registry.get("billing.topup").handler
        await paying.run(self.house, self.owner(organization_id), call, key=f"k{next(self._key)}", credits=500)


async def rate(count: int, clients: int, wallets: list[str], spend: Spender) -> float:
    """Returns how many spends per second the clients get through together, the wallets taken in turn."""
    queue = itertools.cycle(wallets)

    async def client() -> None:
        for _ in range(count // clients):
            await spend(next(queue))

    started = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    return count // clients * clients / (time.perf_counter() - started)


async def row(name: str, clients: int, wallets: list[str], sides: list[Spender]) -> None:
    """Times all sides in turn and prints one line of the table."""
    rounds = []
    for _ in range(ROUNDS):
        rounds.append([await rate(SPENDS, clients, wallets, side) for side in sides])
    ours, *floors = (statistics.median(side) for side in zip(*rounds, strict=True))
    ratios = [statistics.median(each[0] / each[place] for each in rounds) for place in range(1, len(sides))]
    print(
        f"{name:<12} {clients:>7} {ours:>10,.0f}"
        + "".join(f" {floor:>12,.0f} {ratio:>6.2f}" for floor, ratio in zip(floors, ratios, strict=True))
    )


async def spends(bench: Bench) -> None:
    sides: list[Spender] = [bench.ours, bench.all_rows, bench.ledger_rows]
    for side in sides:
        await rate(64, 4, bench.wallets, side)
    print(f"{'spends/s':<12} {'clients':>7} {'fund':>10} {'all rows':>12} {'ratio':>6} {'ledger rows':>12} {'ratio':>6}")
    for name, wallets in (("one wallet", bench.wallets[:1]), (f"{WALLETS} wallets", bench.wallets)):
        for clients in CLIENTS:
            await row(name, clients, wallets, sides)


async def topups(bench: Bench) -> None:
    for organization_id in bench.wallets[:16]:
        await save_card(bench.house, organization_id)
    print(f"\n{'topups/s':<12} {'clients':>7} {'billing.topup':>14}")
    for name, wallets in (("one wallet", bench.wallets[:1]), ("16 wallets", bench.wallets[:16])):
        for clients in CLIENTS:
            rates = [await rate(TOPUPS, clients, wallets, bench.topup) for _ in range(3)]
            print(f"{name:<12} {clients:>7} {statistics.median(rates):>14,.0f}")


async def main() -> None:
    print(f"# {described()}")
    with TestCluster() as cluster, tempfile.TemporaryDirectory() as folder:
        dsn = cluster.create_database()
        place = await prepared_template(dsn)
        async with inhabited(dsn, place, Path(folder), check_replies=False) as household:
            bench = Bench(household.house, place.home.user_id)
            await bench.open_wallets(WALLETS)
            await spends(bench)
            await topups(bench)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
