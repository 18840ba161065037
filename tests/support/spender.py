"""A process that spends from one wallet, four orders at a time, and prints the id of each order that was paid for."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from geopera_server.app import opened
from geopera_server.kernel.errors import Conflict
from geopera_server.kernel.principal import Principal
from geopera_server.values.ids import new_id
from support import paying
from support.serving import settings_for

AT_ONCE = 4


async def main(dsn: str, data_dir: str, organization_id: str, user_id: str, spends: int, price: int) -> None:
    owner = Principal(
        kind="user",
        id=user_id,
        organization_id=organization_id,
        organization_role="owner",
        scopes=frozenset({"*:read", "*:write"}),
    )
    async with opened(settings_for(Path(data_dir)), dsn, base_url="http://spender.test") as house:

        async def client() -> None:
            for _ in range(spends // AT_ONCE):
                order_id = new_id()
                while True:
                    try:
                        await paying.run(house, owner, paying.spend, key=order_id, order_id=order_id, credits=price)
                    except Conflict:
                        continue
                    break
                sys.stdout.write(f"{order_id}\n")
                sys.stdout.flush()

        await asyncio.gather(*(client() for _ in range(AT_ONCE)))


asyncio.run(main(*sys.argv[1:5], *map(int, sys.argv[5:])))
