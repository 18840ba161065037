"""Where an organization's commitments stand: what was delivered, under which of them, and what a shortfall costs.

Nothing of this is stored until an invoice bills it: as long as a delivery is unbilled, what falls under a commitment follows
from the rows as they are. Take-or-pay becomes due when the term is over, and is billed once: billing.enterprise.mark_invoiced
adds it for the month in which the term ended, or a later one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any

import shapely
from shapely.geometry import shape

from geopera_server.db.pool import Connection, Row
from geopera_server.domains.commitments import store
from geopera_server.domains.commitments.rules import Allotment, Commitment, Delivery, Part, Piece, Use, allot, rounded
from geopera_server.kernel.geometry import area_sqkm, polygonal


@dataclass(frozen=True, slots=True)
class Standing:
    """Commitments and deliveries as rows by id and key, and how the ones use up the others."""

    commitments: Mapping[str, Row]
    deliveries: Mapping[str, Row]
    allotment: Allotment

    def parts_of(self, key: str) -> Mapping[str | None, Part]:
        """Returns what a delivery is made of, by commitment with None for none."""
        return self.allotment.parts[key]

    def as_of(self, moment: datetime) -> Standing:
        """Returns the same with uses that count only what was delivered before a moment."""
        deliveries = [as_delivery(row) for row in self.deliveries.values()]
        commitments = [as_commitment(row) for row in self.commitments.values()]
        return replace(self, allotment=allot(commitments, deliveries, until=moment))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What an organization owes for an area it promised to order and did not."""

    commitment: Commitment
    sqkm: Decimal
    credits: int


async def standing_of(conn: Connection, organization_id: str, *, since: datetime | None = None) -> Standing:
    """Returns where all commitments of an organization stand, with every delivery from `since` or the first term on."""
    rows = await store.commitments_of(conn, organization_id)
    commitments = [as_commitment(row) for row in rows]
    starts = [each.begins for each in commitments] + ([] if since is None else [since])
    found = await store.deliveries_since(conn, organization_id, min(starts)) if starts else []
    allotment = allot(commitments, [as_delivery(row) for row in found])
    return Standing({row["id"]: row for row in rows}, {row["key"]: row for row in found}, allotment)


def as_commitment(row: Mapping[str, Any]) -> Commitment:
    """Returns a commitment from its row."""
    return Commitment(
        id=row["id"],
        sqkm_amount=row["sqkm_amount"],
        rate_credits=row["rate_credits"],
        products=frozenset(row["products"]),
        start_date=row["start_date"],
        end_date=row["end_date"],
        adjusted_sqkm=Decimal(row.get("adjusted_sqkm", 0)),
        settled_sqkm=Decimal(row.get("settled_sqkm", 0)),
    )


def as_delivery(row: Mapping[str, Any]) -> Delivery:
    """Returns a delivery from its row."""
    pieces = tuple(as_piece(group, row["data_product_id"]) for group in row["groups"] or ())
    return Delivery(
        key=row["key"],
        at=row["at"],
        credits=row["credits"],
        pieces=pieces,
        is_owed=row["is_owed"],
        billed=_billed(row["lines"], pieces) if row["lines"] else None,
    )


def as_piece(group: Mapping[str, Any], order_product: str | None) -> Piece:
    """Returns what was delivered of a group: all of it, or the area that its `shapes` cover together."""
    area = whole = Decimal(str(group["area_sqkm"]))
    price = int(group["credits"])
    if group["shapes"] is not None:
        area = min(whole, area_sqkm(polygonal(shapely.union_all([shape(each) for each in group["shapes"]]))))
        price = rounded(price * area / whole) if whole else 0
    return Piece(names=product_names(group, order_product), sqkm=area, credits=price)


def product_names(group: Mapping[str, Any], order_product: str | None) -> frozenset[str]:
    """Returns the names by which a commitment may list what a group is of: data product, `host/collection`, collection."""
    names = (group["product"], order_product, group["collection"], f"{group['host']}/{group['collection']}")
    return frozenset(name for name in names if name)


def _billed(lines: Sequence[Mapping[str, Any]], pieces: Sequence[Piece]) -> dict[str | None, Part]:
    parts: dict[str | None, Part] = {}
    for line in lines:
        before = parts.get(line["commitment_id"], Part(Decimal(0), 0))
        parts[line["commitment_id"]] = Part(before.sqkm + Decimal(str(line["sqkm"] or 0)), before.credits + line["credits"])
    if (rest := parts.get(None)) is not None:
        covered = sum((part.sqkm for part in parts.values()), Decimal(0))
        parts[None] = Part(sum((piece.sqkm for piece in pieces), Decimal(0)) - covered, rest.credits)
    return parts


def shortfall_of(use: Use) -> Shortfall:
    """Returns what a commitment's unused area costs."""
    return Shortfall(use.commitment, use.remaining_sqkm, use.shortfall_credits)


def take_or_pay_due(standing: Standing, *, at: datetime, ended_before: datetime | None = None) -> list[Shortfall]:
    """Returns the shortfalls to bill: of commitments whose term is over at a moment and that no invoice has settled.

    With `ended_before` only those of terms that ended before it. One without a shortfall is not among them.
    """
    limit = at if ended_before is None else min(at, ended_before)
    uses = [use for use in standing.allotment.uses.values() if use.commitment.ends <= limit]
    open_ones = [use for use in uses if standing.commitments[use.commitment.id]["settled_invoice_id"] is None]
    return [shortfall_of(use) for use in open_ones if use.shortfall_credits > 0]


async def mark_settled(conn: Connection, organization_id: str, due: Sequence[Shortfall], invoice_id: str) -> None:
    """Notes that an invoice bills some shortfalls, so that no other one does."""
    await store.mark_settled(conn, organization_id, [each.commitment.id for each in due], invoice_id)


async def free_settled(conn: Connection, organization_id: str, invoice_id: str) -> None:
    """Lets the shortfalls of an invoice that was made void be billed again."""
    await store.free_settled(conn, organization_id, invoice_id)
