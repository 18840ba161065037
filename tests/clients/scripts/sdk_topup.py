"""Buys credits through the Python SDK as its documentation shows, and prints what each call came to.

A card holder who is asked for their consent gives it, as a program for people would have them do in a browser.
"""

from __future__ import annotations

import json
import sys

import httpx
from geopera import AuthenticatedClient
from geopera.api.operations import billing_credits_balance, billing_topup
from geopera.models import BillingTopupBodyType0, Empty

given = json.load(sys.stdin)
client = AuthenticatedClient(base_url=given["base_url"], token=given["token"])
told = []


def topped_up(credits_wanted):
    body = BillingTopupBodyType0.from_dict({"credits": credits_wanted})
    response = billing_topup.sync_detailed(client=client, body=body, idempotency_key=given["key"])
    content = json.loads(response.content)
    told.append({"status": int(response.status_code), "content": content, "parsed": type(response.parsed).__name__})
    return content


for credits_wanted in given["credits"]:
    said = topped_up(credits_wanted)
    if said.get("code") == "payment_authentication_required" and given.get("outcome"):
        confirmed = {"client_secret": said["client_secret"], "outcome": given["outcome"]}
        httpx.post(given["base_url"] + "/v1/test/payments/confirm", json=confirmed).raise_for_status()

balance = billing_credits_balance.sync_detailed(client=client, body=Empty())
sys.stdout.write(json.dumps({"calls": told, "balance": json.loads(balance.content)["balance"]}))
