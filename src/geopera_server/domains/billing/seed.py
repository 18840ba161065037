"""The plans that a new deployment begins with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb

from geopera_server.db.pool import Connection

GB = 1_000_000_000
TB = 1_000 * GB
_OVERAGE = {"storage_gb_month_credits": 5, "tiles_per_1000_credits": 2, "egress_gb_credits": 12}
_NO_OVERAGE = {"storage_gb_month_credits": 0, "tiles_per_1000_credits": 0, "egress_gb_credits": 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedPlan:
    """One plan; None in what it includes is no limit."""

    id: str
    name: str
    description: str
    price_credits_monthly: int
    included: dict[str, int | None]
    limits: dict[str, int | None]
    overage: dict[str, int] = field(default_factory=lambda: dict(_OVERAGE))
    features: tuple[str, ...] = ()
    self_service: bool = True


def _included(
    storage: int | None, tiles: int | None, egress: int | None, seats: int | None, projects: int | None, keys: int | None
) -> dict[str, int | None]:
    return {
        "storage_bytes": storage,
        "tile_requests": tiles,
        "egress_bytes": egress,
        "seats": seats,
        "projects": projects,
        "api_keys": keys,
        "webhooks": keys,
    }


def _limits(upload: int, assets: int, calls: int) -> dict[str, int | None]:
    return {"max_upload_bytes": upload, "max_item_assets": assets, "requests_per_minute": calls}


PLANS = (
    SeedPlan(
        id="free",
        name="Free",
        description="To try things out, with credits at approval and each month.",
        price_credits_monthly=0,
        included=_included(5 * GB, 10_000, 5 * GB, 3, 3, 3),
        limits=_limits(2 * GB, 20, 600),
        overage=_NO_OVERAGE,
        features=("catalogue search", "open data orders", "tiles", "provenance"),
    ),
    SeedPlan(
        id="starter",
        name="Starter",
        description="For a small team with projects under way.",
        price_credits_monthly=9_900,
        included=_included(100 * GB, 250_000, 100 * GB, 10, 20, 10),
        limits=_limits(20 * GB, 100, 600),
        features=("catalogue search", "archive orders", "tasking", "processing", "tiles", "provenance", "webhooks"),
    ),
    SeedPlan(
        id="professional",
        name="Professional",
        description="For teams that monitor, process and share at volume.",
        price_credits_monthly=49_900,
        included=_included(TB, 2_500_000, TB, 50, 200, 50),
        limits=_limits(100 * GB, 500, 1_200),
        features=(
            "catalogue search", "archive orders", "tasking", "processing", "tiles", "provenance", "webhooks", "alerts",
            "priority processing",
        ),
    ),
    SeedPlan(
        id="enterprise",
        name="Enterprise",
        description="Terms by contract: invoiced, without fixed limits.",
        price_credits_monthly=0,
        included=_included(None, None, None, None, None, None),
        limits=_limits(TB, 1_000, 6_000),
        overage=_NO_OVERAGE,
        features=("everything", "invoicing", "negotiated prices", "commitments"),
        self_service=False,
    ),
)  # fmt: skip


async def seed_plans(conn: Connection) -> None:
    """Adds the plans that are not there yet; what an operator has changed stays."""
    rows: list[dict[str, Any]] = [
        {
            "id": plan.id,
            "name": plan.name,
            "description": plan.description,
            "price_credits_monthly": plan.price_credits_monthly,
            "included": plan.included,
            "limits": plan.limits,
            "overage": plan.overage,
            "features": plan.features,
            "self_service": plan.self_service,
            "position": position,
        }
        for position, plan in enumerate(PLANS)
    ]
    await conn.execute(
        "INSERT INTO plan (id, name, description, price_credits_monthly, included, limits, overage, features, self_service,"
        " position) SELECT id, name, description, price_credits_monthly, included, limits, overage, features, self_service,"
        " position FROM jsonb_to_recordset(%s) AS seed (id text, name text, description text,"
        " price_credits_monthly bigint, included jsonb, limits jsonb, overage jsonb, features jsonb, self_service boolean,"
        " position integer) ON CONFLICT (id) DO NOTHING",
        (Jsonb(rows),),
    )
