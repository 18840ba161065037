"""Signed tokens that lead from one page of a search to the next, and to no other search."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from datetime import timedelta
from typing import Any

import orjson

from geopera_server.domains.catalog.federation import Found, Plan
from geopera_server.domains.catalog.merging import Place, Stream, last_ids
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput
from geopera_server.values.encoding import canonical

CURSOR_LIFE = timedelta(hours=24)
_CURSOR_OF = "catalog.search"


def binding(host: str, plan: Plan) -> str:
    """Returns a short text that is the same for every page of one search."""
    asked = {**asdict(replace(plan.query, limit=0)), "host": host, "full_catalog": plan.full_catalog}
    return hashlib.sha256(canonical(asked)).hexdigest()[:16]


def continued(outside: Outside, plan: Plan, token: str, bound_to: str) -> Plan:
    """Returns the plan for the page that a token leads to; raises InvalidInput for one that is old or of another search."""
    cursor = _opened(outside.links.unseal(token))
    if cursor["until"] < outside.now.timestamp():
        raise InvalidInput("This cursor is older than a day. Start again without next.", loc=("next",))
    if cursor["for"] != bound_to:
        raise InvalidInput("This cursor belongs to another search. Keep host and filters as they were.", loc=("next",))
    places = {source_id: Place(*place) for source_id, place in cursor["places"].items()}
    return replace(plan, places=places, seen=cursor["seen"], query=replace(plan.query, limit=cursor["page"]))


def _opened(text: str | None) -> dict[str, Any]:
    prefix = f'{{"of":"{_CURSOR_OF}",'
    if text is None or not text.startswith(prefix):
        raise InvalidInput("This is no cursor of this operation. Start again without next.", loc=("next",))
    found: dict[str, Any] = orjson.loads(text)
    return found


def token_after(outside: Outside, plan: Plan, found: Found, bound_to: str) -> str | None:
    """Returns the token that leads to the page after this one; None at the end."""
    places = {
        stream.source.id: [stream.place.cursor, stream.place.taken] for stream in found.streams if _goes_on(stream, found)
    }
    if not places:
        return None
    cursor = {
        "of": _CURSOR_OF,
        "for": bound_to,
        "until": int((outside.now + CURSOR_LIFE).timestamp()),
        "page": plan.query.limit,
        "places": places,
        "seen": last_ids(found.features) if len(places) > 1 else [],
    }
    return outside.links.seal(orjson.dumps(cursor).decode())


def _goes_on(stream: Stream, found: Found) -> bool:
    # Alone, a source that failed on a later page is asked again; among others it is named as failed and left out.
    return stream.has_more or (stream.failure is not None and len(found.streams) == 1)
