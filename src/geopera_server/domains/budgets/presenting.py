"""From rows to the shapes that are sent."""

from __future__ import annotations

from geopera_server.db.pool import Row
from geopera_server.domains.budgets.shapes import Budget


def as_budget(row: Row) -> Budget:
    """Returns a budget as it is told; `row` is one of store's, with the figures of a period."""
    used = row["spent_credits"] + row["reserved_credits"]
    renews = row["period"] != "total"
    return Budget(
        id=row["id"],
        subject_type=row["subject_type"],
        subject_id=None if row["subject_type"] == "organization" else row["subject_id"],
        period=row["period"],
        limit_credits=row["limit_credits"],
        spent_credits=row["spent_credits"],
        reserved_credits=row["reserved_credits"],
        remaining_credits=max(0, row["limit_credits"] - used),
        mode=row["mode"],
        alert_thresholds=[float(threshold) for threshold in row["alert_thresholds"]],
        active=row["active"],
        period_start=row["period_start"] if renews else None,
        period_end=row["period_end"],
        created_by=row["created_by"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
