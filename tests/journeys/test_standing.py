"""Where an organization stands, as it feels from outside."""

from __future__ import annotations

import asyncio

import pytest
from pydantic import SecretStr

from geopera_server.settings import Settings, SettingsRefused
from support.cards import check_charges, save_card
from support.market import opened_market
from support.months import been_on
from support.serving import OPENING_CREDITS, Actor, served

CRON_SECRET = "the secret that the clock outside calls with"
RUN = "billing.run_monthly_for_org"


@pytest.fixture
async def market(cluster, template, tmp_path, shared_data):
    async with opened_market(cluster, template, tmp_path, shared_data) as opened:
        yield opened


async def until(answers, wanted, *, within_s: float = 20):
    """Asks until the answer is the one wanted."""
    deadline = asyncio.get_running_loop().time() + within_s
    while (answer := await answers()) != wanted:
        assert asyncio.get_running_loop().time() < deadline, f"it is still {answer!r}"
        await asyncio.sleep(0.05)


async def test_a_month_that_was_not_paid_is_paid_by_a_top_up(market):
    home = market.place.home
    body = {"organization_id": home.organization_id}
    period = been_on(market.house.dsn, home.organization_id, "starter")
    operator, owner = await market.operator(), await market.signed_in(home.email)
    drain = {**body, "credits": 100 - OPENING_CREDITS, "reason": "Spent"}
    await operator.op("billing.admin.grant_credits", drain, Idempotency_Key="drain")

    run = await owner.op(RUN, body)
    assert (run["status"], run["period"]) == ("past_due", str(period))
    assert await market.home.refused("orders.archive.place", market.cart(projectId=home.project_id)) == (
        402,
        "account_past_due",
    )

    async def standing():
        return (await owner.op("billing.status.get", body))["standing"]

    assert await standing() == "past_due"
    await save_card(market.house, home.organization_id)
    await owner.op("billing.topup", {"credits": 10_000}, Idempotency_Key="pay")
    await until(standing, "active")
    assert (await owner.op(RUN, body))["status"] == "already_billed"
    assert (await owner.op("billing.credits.balance"))["balance"] == 100 + 10_000 - 9_900
    [charge] = await check_charges(market.sql)
    assert charge["amount_cents"] == 10_000
    [invoice] = (await owner.op("billing.invoices.list"))["invoices"]
    assert (invoice["period"], invoice["total_aud"], invoice["status"]) == (str(period), 99.0, "paid")


async def test_an_organization_that_is_going_reads_and_buys_nothing(market):
    home = market.place.home
    owner = await market.signed_in(home.email)
    order = market.cart(projectId=home.project_id)
    await owner.op("organizations.deletion.request", {"days": 1})
    assert await market.home.refused("orders.archive.place", order) == (409, "illegal_state")
    assert (await owner.op("billing.credits.balance"))["balance"] == OPENING_CREDITS
    assert (await owner.op("projects.list"))["total"] == 1
    await owner.op("organizations.deletion.cancel")
    assert (await market.home.post("orders.archive.place", order)).status_code == 202


async def test_nobody_gets_into_a_deleted_organization(market):
    home = market.place.home
    done = await market.delivered()
    [asset] = (await market.home.op("items.list_assets", {"item_id": done["itemIds"][0]}))["assets"]
    owner, operator = await market.signed_in(home.email), await market.operator()
    await owner.op("organizations.deletion.request")
    await market.sql("UPDATE organization SET deletion_due_at = now() WHERE deletion_due_at IS NOT NULL")
    before = await market.sql("SELECT * FROM lineage_edge ORDER BY record_id, dst_id")
    cleanup = await operator.op("billing.cleanup_deleted_orgs")
    assert [each["organization_id"] for each in cleanup["purged"]] == [home.organization_id]
    assert cleanup["purged"][0]["storage_freed_bytes"] >= asset["file_size_bytes"]
    assert (await market.home.post("items.list_assets", {"item_id": done["itemIds"][0]})).status_code == 401
    assert (await owner.post("organizations.list")).status_code == 401
    again = await market.signed_in(home.email)
    assert await again.refused("billing.credits.balance") == (403, "missing_scope")
    objects = market.house.settings.data_dir / "objects"
    assert [path for path in objects.rglob("*") if path.is_file()] == []
    assert await market.sql("SELECT * FROM lineage_edge ORDER BY record_id, dst_id") == before
    assert await operator.refused("billing.status.get", {"organization_id": home.organization_id}) in {
        (404, "not_found"),
        (403, "missing_scope"),
    }


async def test_a_suspended_organization_reads_and_pays(server):
    operator, owner = await server.operator(), await server.signed_in(server.place.home.email)
    body = {"organization_id": server.place.home.organization_id}
    await operator.op("billing.admin.suspend", body)
    assert await owner.refused("projects.create", {"name": "More"}) == (403, "org_suspended")
    assert (await owner.op(RUN, body))["status"] == "nothing_due"
    assert (await owner.op("billing.status.get", body))["standing"] == "suspended"
    await operator.op("billing.admin.unsuspend", body)
    await owner.op("projects.create", {"name": "More"})


async def test_the_clock_outside_may_do_what_clocks_do(database, place, tmp_path):
    async with served(database, place, data_dir=tmp_path, background=False, cron_secret=SecretStr(CRON_SECRET)) as server:
        clock = Actor(server.http, CRON_SECRET)
        for operation_id in ("billing.run_monthly_cron", "billing.free_tier.grant_all", "billing.cleanup_deleted_orgs"):
            await clock.op(operation_id)
        [audit] = await server.sql(
            "SELECT DISTINCT principal_type, organization_id FROM audit_event WHERE operation_id = 'billing.run_monthly_cron'"
        )
        assert audit["principal_type"] == "service"
        body = {"organization_id": place.home.organization_id}
        for operation_id in ("billing.admin.suspend", "billing.free_tier.approve", "billing.admin.organizations.list", RUN):
            assert await clock.refused(operation_id, body) == (403, "missing_scope")
        for path in ("/openapi.admin.json", "/realms/public/protocol/openid-connect/userinfo"):
            answer = await server.http.get(path, headers={"Authorization": f"Bearer {CRON_SECRET}"})
            assert answer.status_code == 403, path
        assert await Actor(server.http, CRON_SECRET + "x").refused("billing.run_monthly_cron") == (401, "unauthenticated")
    async with served(database, place, data_dir=tmp_path, background=False) as server:
        assert await Actor(server.http, CRON_SECRET).refused("billing.run_monthly_cron") == (401, "unauthenticated")


async def test_the_plan_says_how_many_calls(database, place, tmp_path):
    async with served(database, place, data_dir=tmp_path, background=False, rate_default=None) as server:
        operator = await server.operator()
        await server.sql("UPDATE plan SET limits = limits || '{\"requests_per_minute\": 3}' WHERE id = 'free'")
        replies = [await server.home.post("projects.list") for _ in range(8)]
        assert {reply.status_code for reply in replies[-4:]} == {429}
        assert replies[-1].json()["code"] == "rate_limited"
        plan = {"organization_id": place.home.organization_id, "plan": "professional"}
        await operator.op("billing.admin.set_plan", plan)
        assert (await server.home.post("projects.list")).status_code == 200


async def test_a_secret_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(SettingsRefused, match="GEOPERA_CRON_SECRET"):
        Settings(data_dir=tmp_path, cron_secret=SecretStr("short"))
