"""`kill -9` in the middle of a charge that a worker or an approver makes: charged once, and every charge is credits."""

from __future__ import annotations

import asyncio
import time

import httpx
import psycopg
import pytest
from psycopg.rows import dict_row

from support.cards import check_charges, save_card
from support.processes import up
from support.serving import OPENING_CREDITS, PASSWORD, served

# A charge is looked after within seconds when requests to the processor are allowed less than one.
SHORT = {"GEOPERA_PAYMENT_TIMEOUT_S": "0.5", "GEOPERA_LEASE_S": "3"}
AMOUNT = 7_000


@pytest.fixture
async def carded(database, place, tmp_path, shared_data):
    """A database whose home organization has a card."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data], background=False) as server:
        await save_card(server.house, place.home.organization_id)


def owner(url: str, place) -> httpx.Client:
    form = {"grant_type": "password", "client_id": "geopera", "username": place.home.email, "password": PASSWORD}
    token = httpx.post(f"{url}/realms/public/protocol/openid-connect/token", data=form).json()["access_token"]
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=30)


def asking(database: str):
    async def ask(query: str, *values):
        with psycopg.connect(database, row_factory=dict_row) as conn:
            return conn.execute(query, values).fetchall()

    return ask


async def until(seen, *, within_s: float = 40) -> None:
    deadline = time.monotonic() + within_s
    while not await seen():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("point", ["intent-kept", "charge-made", "grant-before-commit"])
async def test_the_worker_is_killed_while_it_tops_up(point, carded, database, place, tmp_path, shared_data):
    ask = asking(database)
    wanted = {"enabled": True, "threshold_credits": OPENING_CREDITS + 1, "topup_amount_credits": AMOUNT}
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point, **SHORT) as first:
        with owner(first.ready_url(), place) as http:
            assert http.post("/v1/op/billing.set_auto_topup", json=wanted).status_code == 200
        assert first.was_killed(), f"the point {point} was not reached"
    with up(tmp_path, database, shared_data, **SHORT) as second:
        second.ready_url()

        async def full() -> bool:
            [row] = await ask("SELECT balance FROM ledger_account WHERE organization_id = %s", place.home.organization_id)
            return row["balance"] == OPENING_CREDITS + AMOUNT

        async def done() -> bool:
            return not await ask("SELECT 1 FROM job WHERE kind = 'billing.auto_topup' AND state = 'running'")

        await until(full)
        await until(done)
        assert second.terminate() == 0
    assert len(await check_charges(ask)) == 1


def approve(http: httpx.Client, body: dict[str, str]) -> httpx.Response:
    return http.post("/v1/op/billing.approvals.approve", json=body, headers={"Idempotency-Key": "crash"})


def until_answered(http: httpx.Client, body: dict[str, str]) -> httpx.Response:
    """Repeats the approval for as long as it is told that the call that was killed is at work on it."""
    deadline = time.monotonic() + 30
    while (answer := approve(http, body)).status_code == 409:
        assert answer.json()["code"] == "idempotency_in_progress"
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return answer


@pytest.mark.parametrize("point", ["charge-made", "grant-before-commit"])
async def test_an_approver_is_killed_and_comes_back(point, carded, database, place, tmp_path, shared_data):
    with up(tmp_path, database, shared_data, GEOPERA_CRASH_AT=point, **SHORT) as first:
        with owner(first.ready_url(), place) as http:
            asked = http.post("/v1/op/billing.approvals.request", json={"credits": AMOUNT}).json()
            body = {"approval_id": asked["id"]}
            with pytest.raises(httpx.TransportError):
                approve(http, body)
        assert first.was_killed(), f"the point {point} was not reached"
    with up(tmp_path, database, shared_data, **SHORT) as second:
        with owner(second.ready_url(), place) as http:
            answer = until_answered(http, body)
            assert (answer.status_code, answer.json()["status"]) == (200, "approved"), answer.text
            rejected = http.post("/v1/op/billing.approvals.reject", json=body)
            assert (rejected.status_code, rejected.json()["code"]) == (409, "illegal_state")
        assert second.terminate() == 0
    ask = asking(database)
    assert len(await check_charges(ask)) == 1
    [row] = await ask("SELECT balance FROM ledger_account WHERE organization_id = %s", place.home.organization_id)
    assert row["balance"] == OPENING_CREDITS + AMOUNT
