"""Which card processor a deployment gets, and that production never gets one that gives credits for nothing."""

from __future__ import annotations

import pytest

from geopera_server.kernel.errors import PaymentRequired
from geopera_server.settings import SettingsRefused
from support.house import inhabited
from support.serving import settings_for


@pytest.mark.parametrize(
    ("chosen", "processor"),
    [
        ({}, "test"),
        ({"env": "production"}, "none"),
        ({"payments": "none"}, "none"),
        ({"env": "production", "payments": "none"}, "none"),
    ],
)
def test_chosen_by_default(tmp_path, chosen, processor):
    settings = settings_for(tmp_path, **chosen)
    settings.require_payments()
    assert settings.card_processor == processor


@pytest.mark.parametrize("key", ["sk_test_1", "rk_test_1"])
def test_production_takes_no_test_key(tmp_path, key):
    settings = settings_for(
        tmp_path, env="production", payments="stripe", stripe_secret_key=key, stripe_webhook_secret="whsec_1"
    )
    with pytest.raises(SettingsRefused, match="test key"):
        settings.require_payments()


@pytest.mark.parametrize(
    "chosen", [{"env": "production", "payments": "test"}, {"payments": "stripe"}, {"env": "production", "payments": "stripe"}]
)
def test_refused(tmp_path, chosen):
    with pytest.raises(SettingsRefused, match="GEOPERA_PAYMENTS"):
        settings_for(tmp_path, **chosen).require_payments()


async def test_a_deployment_without_cards_says_so(database, place, tmp_path):
    async with inhabited(database, place, tmp_path, payments="none") as household:
        assert await household.owner.refused("payment_methods.create_setup_intent") == (502, "upstream_error")
        assert await household.owner.refused("payment_methods.attach", {"payment_method_id": "pm_card_visa"}) == (
            502,
            "upstream_error",
        )
        assert await household.owner.refused("billing.topup", {"credits": 500}) == (402, "no_payment_method")
        with pytest.raises(PaymentRequired, match="takes no cards"):
            await household.owner.op("billing.topup", {"credits": 500})
        assert await household.owner.op("payment_methods.list") == {"paymentMethods": [], "total": 0}
        assert (await household.owner.op("billing.stripe_invoices.list"))["invoices"] == []
