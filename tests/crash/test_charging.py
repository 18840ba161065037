"""`kill -9` at every named point between the wish to charge a card and the credits: charged once, and every charge is credits."""

from __future__ import annotations

import asyncio
import time

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from geopera_server.kernel.crashing import CHARGE_POINTS
from support.cards import check_charges, save_card
from support.processes import up
from support.scenes import open_archive
from support.serving import OPENING_CREDITS, PASSWORD, served

# A charge is looked after within seconds when requests to the processor are allowed less than one.
SHORT = {"GEOPERA_PAYMENT_TIMEOUT_S": "0.5"}
TOPUP = 7_000


@pytest.fixture
async def archive(database, place, tmp_path, shared_data):
    """A priced scene for an organization with a card and hardly a credit; returns the AOI."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], background=False) as server:
        await save_card(server.house, place.home.organization_id)
        operator = await server.operator()
        drain = {"organization_id": place.home.organization_id, "credits": 100 - OPENING_CREDITS, "reason": "Emptied"}
        await operator.op("billing.admin.grant_credits", drain, Idempotency_Key="drain")
        return await open_archive(server, shared_data, price_aud="8.00")


def caller(url: str, place) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {place.home.api_key}"}, timeout=30)


def top_up(http: httpx.Client, place) -> httpx.Response:
    """Tops up as the owner: the standard keys buy no credits."""
    form = {"grant_type": "password", "client_id": "geopera", "username": place.home.email, "password": PASSWORD}
    token = http.post("/realms/public/protocol/openid-connect/token", data=form).json()["access_token"]
    headers = {"Idempotency-Key": "crash", "Authorization": f"Bearer {token}"}
    return http.post("/v1/op/billing.topup", json={"credits": TOPUP}, headers=headers)


def place_order(http: httpx.Client, place, aoi) -> httpx.Response:
    body = {"projectId": place.home.project_id, "captures": [{"id": "TEST_BOLZANO_1", "host": "test-archive", "geometry": aoi}]}
    return http.post("/v1/op/orders.archive.place", json=body, headers={"Idempotency-Key": "crash"})


def until_answered(call, *, within_s: float = 30) -> httpx.Response:
    """Repeats a call for as long as it is told that another one is at work on the same key."""
    deadline = time.monotonic() + within_s
    while (answer := call()).status_code == 409:
        assert answer.json()["code"] == "idempotency_in_progress"
        assert 1 <= int(answer.headers["retry-after"]) <= within_s
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("point", [*CHARGE_POINTS, "place-before-commit", "call-committed"])
async def test_an_order_is_killed_and_repeated(point, archive, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point, **SHORT) as first:
        with caller(first.ready_url(), place) as http, pytest.raises(httpx.TransportError):
            place_order(http, place, archive)
        assert first.was_killed(), f"the point {point} was not reached"
    with up(tmp_path, database, shared_data, **SHORT) as second:
        with caller(second.ready_url(), place) as http:
            placed = until_answered(lambda: place_order(http, place, archive))
            assert placed.status_code == 202, placed.text
            assert placed.json()["billingMode"] == "card"
        assert second.terminate() == 0
    [charge] = await check_charges(asking(database))
    total = placed.json()["totalCredits"]
    assert charge["amount_cents"] == total - 100
    [row] = await asking(database)(
        "SELECT balance, reserved, (SELECT count(*) FROM orders) AS orders FROM ledger_account WHERE organization_id = %s",
        place.home.organization_id,
    )
    assert (row["balance"], row["orders"]) == (0, 1)


@pytest.mark.parametrize("point", CHARGE_POINTS)
async def test_a_top_up_is_killed_and_nobody_comes_back(point, archive, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point, **SHORT) as first:
        with caller(first.ready_url(), place) as http, pytest.raises(httpx.TransportError):
            top_up(http, place)
        assert first.was_killed(), f"the point {point} was not reached"
    ask = asking(database)
    with up(tmp_path, database, shared_data, **SHORT) as second:
        second.ready_url()
        deadline = time.monotonic() + 40
        while True:
            [row] = await ask("SELECT state, ledger_entry_id FROM topup")
            if row["state"] in {"failed", "canceled"} or row["ledger_entry_id"] is not None:
                break
            assert time.monotonic() < deadline, f"the charge is left {row['state']}"
            await asyncio.sleep(0.2)
        assert second.terminate() == 0
    made = point in {"charge-made", "charge-recorded", "grant-before-commit"}
    assert len(await check_charges(ask)) == (1 if made else 0)
    [account] = await ask("SELECT balance FROM ledger_account WHERE organization_id = %s", place.home.organization_id)
    assert account["balance"] == 100 + (TOPUP if made else 0)


def asking(database: str):
    async def ask(query: str, *values):
        with psycopg.connect(database, row_factory=dict_row) as conn:
            return conn.execute(query, values).fetchall()

    return ask
