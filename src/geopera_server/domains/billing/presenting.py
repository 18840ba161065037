"""From rows to the shapes that are sent."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from geopera_server.domains.billing.shapes import LedgerEntry, Plan, PlanIncluded, PlanLimits, PlanOverage
from geopera_server.domains.pricing.rules import aud

Row = Mapping[str, Any]


def as_ledger_entry(row: Row) -> LedgerEntry:
    """Returns a movement of credits as its organization sees it."""
    return LedgerEntry(
        id=row["id"],
        organization_id=row["organization_id"],
        created_at=row["created_at"],
        reason=row["reason"],
        credits=row["credits"],
        balance_after=row["balance_after"],
        reserved_after=row["reserved_after"],
        project_id=row["project_id"],
        order_id=row["order_id"],
        job_id=row["job_id"],
        topup_id=row["topup_id"],
        approval_id=row["approval_id"],
        invoice_id=row["invoice_id"],
        principal_id=row["principal_id"],
        api_key_id=row["api_key_id"],
        invocation_id=row["invocation_id"],
        note=row["note"],
    )


def as_plan(row: Row) -> Plan:
    """Returns a plan; what its row does not say is no limit, and not sold beyond."""
    included, limits, overage = row["included"], row["limits"], row["overage"]
    return Plan(
        id=row["id"],
        name=row["name"],
        description=row["description"],
        price_aud_monthly=aud(row["price_credits_monthly"]),
        price_credits_monthly=row["price_credits_monthly"],
        included=PlanIncluded(
            storage_bytes=included.get("storage_bytes"),
            tile_requests=included.get("tile_requests"),
            egress_bytes=included.get("egress_bytes"),
            seats=included.get("seats"),
            projects=included.get("projects"),
            api_keys=included.get("api_keys"),
            webhooks=included.get("webhooks"),
        ),
        limits=PlanLimits(
            max_upload_bytes=limits.get("max_upload_bytes"),
            max_item_assets=limits.get("max_item_assets"),
            requests_per_minute=limits.get("requests_per_minute"),
        ),
        overage=PlanOverage(
            storage_gb_month_credits=overage.get("storage_gb_month_credits", 0),
            tiles_per_1000_credits=overage.get("tiles_per_1000_credits", 0),
            egress_gb_credits=overage.get("egress_gb_credits", 0),
        ),
        features=row["features"],
        self_service=row["self_service"],
    )
