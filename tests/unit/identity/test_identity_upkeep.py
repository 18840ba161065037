"""What is over is forgotten, and nothing that still serves somebody."""

from __future__ import annotations

from datetime import timedelta

from geopera_server.domains.identity.upkeep import forget_what_is_over
from geopera_server.values.clock import now
from support.realms import PROTOCOL


async def left(realms) -> dict[str, int]:
    counts = {}
    for table, query in {
        "sessions": "SELECT count(*) AS n FROM auth_session",
        "refresh": "SELECT count(*) AS n FROM refresh_token",
        "devices": "SELECT count(*) AS n FROM device_grant",
        "clients": "SELECT count(*) AS n FROM oauth_client",
    }.items():
        counts[table] = (await realms.sql(query))[0]["n"]
    return counts


async def forget(realms, *, before):
    async with realms.realm.transaction() as conn:
        await forget_what_is_over(conn, before=before)


async def test_forgetting(realms):
    first = await realms.signed_in()
    await realms.http.post(f"{PROTOCOL}/auth/device", data={"client_id": "geopera-cli"})
    register = "/realms/public/clients-registrations/openid-connect"
    await realms.http.post(register, json={"redirect_uris": ["https://agent.example/cb"]})
    full = {"sessions": 1, "refresh": 1, "devices": 1, "clients": 3}
    assert await left(realms) == full
    await forget(realms, before=now())
    assert await left(realms) == {**full, "clients": 2}
    assert await realms.works(first["access_token"])
    await forget(realms, before=now() + timedelta(hours=1))
    assert await left(realms) == {"sessions": 0, "refresh": 0, "devices": 0, "clients": 2}
    assert not await realms.works(first["access_token"])
