"""The quickstart as a user of the Python SDK writes it. Reads its settings as JSON, prints what each step gave."""

from __future__ import annotations

import json
import sys
import time

import httpx
from geopera import AuthenticatedClient
from geopera.api.operations import (
    billing_credits_balance,
    catalog_search,
    items_asset_download,
    items_get_stac,
    items_list,
    items_list_assets,
    orders_archive_estimate,
    orders_archive_place,
    orders_get,
    provenance_get,
)
from geopera.models import (
    ArchiveEstimateInput,
    AssetDownloadInput,
    CatalogSearchInput,
    Empty,
    ItemAssetsInput,
    ItemsListInput,
    ItemStacInput,
    LineageGetInput,
    OrderGetInput,
    OrdersArchivePlaceBodyType0,
)

FINAL = {"fulfilled", "failed", "cancelled"}
given = json.load(sys.stdin)
told = {}


def tell(step, response):
    """Notes what a step gave: the status, and the class and content of what the SDK made of it."""
    parsed = response.parsed
    content = parsed.to_dict() if hasattr(parsed, "to_dict") else parsed
    told[step] = {"status": int(response.status_code), "model": type(parsed).__name__, "content": content}
    return content


granted = httpx.post(
    f"{given['base_url']}/realms/public/protocol/openid-connect/token",
    data={"grant_type": "client_credentials", "client_id": "geopera", "client_secret": given["api_key"]},
).json()
client = AuthenticatedClient(base_url=given["base_url"], token=granted["access_token"])

search = CatalogSearchInput(
    host_name=given["host"],
    collections=given["collections"],
    bbox=given["bbox"],
    datetime_="2022-01-01T00:00:00Z/2022-12-31T23:59:59Z",
    limit=10,
)
found = tell("search", catalog_search.sync_detailed(client=client, body=search))
capture = {"id": found["features"][0]["id"], "host": found["features"][0]["host"], "geometry": given["aoi"]}

cart = ArchiveEstimateInput.from_dict({"captures": [capture]})
tell("estimate", orders_archive_estimate.sync_detailed(client=client, body=cart))
tell("balance", billing_credits_balance.sync_detailed(client=client, body=Empty()))

spending = client.with_headers({"Idempotency-Key": given["idempotency_key"]})
wanted = OrdersArchivePlaceBodyType0.from_dict({"projectId": given["project_id"], "captures": [capture]})
order = tell("place", orders_archive_place.sync_detailed(client=spending, body=wanted))
tell("place again", orders_archive_place.sync_detailed(client=spending, body=wanted))

deadline = time.monotonic() + 30
while time.monotonic() < deadline:
    state = tell("get", orders_get.sync_detailed(client=client, body=OrderGetInput(order_id=order["id"])))
    if state["status"] in FINAL:
        break
    time.sleep(0.05)

listed = tell("list", items_list.sync_detailed(client=client, body=ItemsListInput(project_id=given["project_id"])))
item_id = listed["items"][0]["id"]
tell("stac", items_get_stac.sync_detailed(client=client, body=ItemStacInput(item_id=item_id)))
upwards = LineageGetInput(entity_type="item", entity_id=item_id)
tell("lineage", provenance_get.sync_detailed(client=client, body=upwards))
assets = tell("assets", items_list_assets.sync_detailed(client=client, body=ItemAssetsInput(item_id=item_id)))
download = AssetDownloadInput(item_id=item_id, asset_id=assets["assets"][0]["id"])
link = tell("download", items_asset_download.sync_detailed(client=client, body=download))
told["bytes"] = len(httpx.get(link["url"]).content)

json.dump(told, sys.stdout, default=str)
