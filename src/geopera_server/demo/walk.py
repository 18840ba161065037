"""Walks the quickstart over real HTTP, printing each call, what came back in short, and how long it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.tree import Tree

from geopera_server.demo.imagery import DemoImagery
from geopera_server.demo.seeding import ARCHIVE_HOST, OPEN_HOST, Demo

TOKEN_PATH = "/realms/public/protocol/openid-connect/token"  # noqa: S105  (an address)
FINAL = frozenset({"fulfilled", "failed", "cancelled"})
DELIVERY_WITHIN_S = 120.0


class WalkFailed(Exception):
    """A step of the walk did not answer as the quickstart says; the text names the step and the answer."""


@dataclass(slots=True)
class Walk:
    """One walk through the quickstart as the demo's organization."""

    demo: Demo
    http: httpx.AsyncClient
    console: Console
    headers: dict[str, str] = field(default_factory=dict)
    step: int = 0

    def headline(self, text: str) -> None:
        """Begins the next step."""
        self.step += 1
        self.console.print(f"\n[bold]{self.step}. {text}[/bold]")

    async def op(self, operation_id: str, body: Mapping[str, Any], **headers: str) -> Any:
        """Calls one operation, prints the call and its time, and returns the reply."""
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        started = time.perf_counter()
        reply = await self.http.post(f"/v1/op/{operation_id}", json=body, headers=sent)
        replayed = ", replayed" if "idempotency-replayed" in reply.headers else ""
        self.shown("POST", f"/v1/op/{operation_id}", reply, started, note=replayed)
        return reply.json()

    def shown(self, method: str, path: str, reply: httpx.Response, started: float, note: str = "") -> None:
        """Prints one call; raises WalkFailed when it was refused."""
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.console.print(f"   [cyan]{method} {path}[/cyan] [dim]→ {reply.status_code} in {elapsed_ms:.0f} ms{note}[/dim]")
        if reply.is_error:
            raise WalkFailed(f"{method} {path} answered {reply.status_code}: {reply.text}")

    def say(self, text: str) -> None:
        """Prints what an answer says in short."""
        self.console.print(f"   {text}", highlight=False)


async def walk(demo: Demo, imagery: DemoImagery, console: Console) -> None:
    """Goes from a key to delivered imagery and its lineage; raises WalkFailed where an answer is not as promised."""
    async with httpx.AsyncClient(base_url=demo.base_url, timeout=60) as http:
        steps = Walk(demo, http, console)
        await _sign_in(steps)
        free = await _search(steps, OPEN_HOST, imagery, "Search the open-data host")
        paid = await _search(steps, ARCHIVE_HOST, imagery, "Search the priced archive over the same place")
        orders = [
            await _order(steps, "open data", free, OPEN_HOST, imagery),
            await _order(steps, "priced", paid, ARCHIVE_HOST, imagery),
        ]
        delivered = await _deliver(steps, orders)
        item = await _items(steps, delivered[-1])
        await _lineage(steps, item)
        await _money(steps)


async def _sign_in(steps: Walk) -> None:
    steps.headline("Get an access token")
    form = {"grant_type": "client_credentials", "client_id": "geopera", "client_secret": steps.demo.api_key}
    started = time.perf_counter()
    reply = await steps.http.post(TOKEN_PATH, data=form)
    steps.shown("POST", TOKEN_PATH, reply, started)
    token = reply.json()
    steps.headers["Authorization"] = f"Bearer {token['access_token']}"
    steps.say(f"a {token['token_type']} token for {token['expires_in']} s, refreshable for {token['refresh_expires_in']} s")


async def _search(steps: Walk, host: str, imagery: DemoImagery, headline: str) -> dict[str, Any]:
    steps.headline(headline)
    query = {"host_name": host, "bbox": imagery.bbox, "query": {"eo:cloud_cover": {"lte": 20}}, "limit": 5}
    found = await steps.op("catalog.search", query)
    for feature in found["features"]:
        properties = feature["properties"]
        price = (properties.get("geopera:pricing") or {}).get("price_per_sqkm")
        steps.say(
            f"{feature['id']}  {properties['datetime'][:10]}  cloud {properties['cloudCoverage']:.0f} %  A${price:.2f} per km²"
        )
    if not found["features"]:
        raise WalkFailed(f"{host} has no scene over the demo area")
    first: dict[str, Any] = found["features"][0]
    return first


async def _order(steps: Walk, kind: str, feature: Mapping[str, Any], host: str, imagery: DemoImagery) -> dict[str, Any]:
    steps.headline(f"Preview the price of the {kind} capture, then place the order")
    cart = {"captures": [{"id": feature["id"], "host": host, "geometry": imagery.aoi}]}
    estimate = await steps.op("orders.archive.estimate", cart)
    [group] = estimate["groups"]
    price = f"{estimate['total_credits']} credits = A${estimate['total_aud']:.2f}"
    steps.say(f"{group['areaSqkm']:.4f} km², billed {group['billableAreaSqkm']:.4f} km²: {price}")
    body = {"projectId": steps.demo.project_id, "displayName": f"Demo {kind}", **cart}
    key = f"demo-{host}-{feature['id']}"
    order: dict[str, Any] = await steps.op("orders.archive.place", body, Idempotency_Key=key)
    if order["totalCredits"] != estimate["total_credits"]:
        raise WalkFailed(f"the order costs {order['totalCredits']} credits and the estimate said {estimate['total_credits']}")
    again = await steps.op("orders.archive.place", body, Idempotency_Key=key)
    steps.say(f"order {order['id']} is {order['status']}; sent again with the same key it is still {again['id']}")
    return order


async def _deliver(steps: Walk, orders: list[dict[str, Any]]) -> list[dict[str, Any]]:
    steps.headline("Track the orders until they are delivered")
    columns = (
        SpinnerColumn(),
        TextColumn("   {task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=steps.console) as progress:
        delivered = [await _follow(steps, order, progress) for order in orders]
    for order in delivered:
        if order["status"] != "fulfilled":
            raise WalkFailed(f"order {order['id']} ended as {order['status']}: {order['failureReason']}")
        steps.say(f"{order['displayName']}: {order['status']}, {len(order['itemIds'])} item, {len(order['assets'])} files")
    return delivered


async def _follow(steps: Walk, order: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    total = sum(len(group["captures"]) for group in order["groups"])
    bar = progress.add_task(str(order["displayName"]), total=total, state="waiting")
    deadline = time.monotonic() + DELIVERY_WITHIN_S
    while True:
        reply = await steps.http.get("/v1/op/orders.get", params={"id": order["id"]}, headers=steps.headers)
        now: dict[str, Any] = reply.raise_for_status().json()
        progress.update(bar, completed=len(now["itemIds"]), state=now["subStatus"] or now["status"])
        if now["status"] in FINAL:
            return now
        if time.monotonic() > deadline:
            raise WalkFailed(f"order {order['id']} is still {now['status']} after {DELIVERY_WITHIN_S:.0f} s")
        await asyncio.sleep(0.1)


async def _items(steps: Walk, order: Mapping[str, Any]) -> str:
    steps.headline("Read what was delivered")
    item_id: str = order["itemIds"][0]
    stac = await steps.op("items.get_stac", {"item_id": item_id})
    assets = await steps.op("items.list_assets", {"item_id": item_id})
    for asset in assets["assets"]:
        size = f"{asset['width']} x {asset['height']} px, {asset['file_size_bytes']:,} bytes"
        steps.say(f"{asset['key']}: {size}, {asset['dtype']}, {', '.join(asset['band_names'])}")
    asset = assets["assets"][0]
    link = await steps.op("items.asset.download", {"item_id": item_id, "asset_id": asset["id"]})
    started = time.perf_counter()
    head = await steps.http.get(link["url"], headers={"Range": "bytes=0-1023"})
    steps.shown("GET", "the signed address, first kilobyte", head, started)
    steps.say(
        f"STAC {stac['stac_version']} item {stac['id']}; {asset['file_name']} starts with {head.content[:2].decode()} (a TIFF)"
    )
    return item_id


async def _lineage(steps: Walk, item_id: str) -> None:
    steps.headline("See where it came from")
    lineage = await steps.op("provenance.get", {"entity_type": "item", "entity_id": item_id})
    parents: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for edge in lineage["edges"]:
        parents.setdefault((edge["src_type"], edge["src_id"]), []).append((edge["dst_type"], edge["dst_id"]))
    root = ("item", item_id)
    tree = Tree(_named(root))
    _grow(tree, root, parents)
    steps.console.print(tree)
    proof = await steps.op("provenance.verify", {"entity_type": "item", "entity_id": item_id})
    steps.say(f"verified: {proof['ok']}, {proof['checked']} records checked")


def _grow(tree: Tree, node: tuple[str, str], parents: Mapping[tuple[str, str], list[tuple[str, str]]]) -> None:
    for parent in parents.get(node, []):
        _grow(tree.add(f"derived from {_named(parent)}"), parent, parents)


def _named(node: tuple[str, str]) -> str:
    return f"[bold]{node[0]}[/bold] {node[1]}"


async def _money(steps: Walk) -> None:
    steps.headline("Look at the money")
    ledger = await steps.op("billing.credits.transactions", {"limit": 5})
    for entry in ledger["transactions"]:
        after = f"balance {entry['balance_after']:>8,}  reserved {entry['reserved_after']:>6,}"
        steps.say(f"{entry['reason']:<15} {entry['credits']:>8,}  {after}")
