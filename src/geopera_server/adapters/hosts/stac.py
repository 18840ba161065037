"""Any STAC API as a host: item search by POST or GET, page by page, within one time budget."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import httpx
import orjson

from geopera_server.adapters.hosts.fetch import Answer, fetch
from geopera_server.adapters.hosts.matching import matching
from geopera_server.adapters.hosts.stac_requests import Manners, Position, Search, next_position, search_for
from geopera_server.kernel.stac import Item
from geopera_server.ports.host import HostFailed, HostPage, HostQuery

logger = logging.getLogger(__name__)

SEARCHES_AT_ONCE = 12
_DECLINED = frozenset({400, 415, 422, 501})


class StacHost:
    """Searches one STAC API; what the API understands is learned from its landing page and from what it declines.

    Items are held against the query once more here, since many APIs pass over what they do not know.
    """

    def __init__(
        self, client: httpx.AsyncClient, url: str, *, timeout_s: float, headers: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._manners: Manners | None = None
        self._slots = asyncio.Semaphore(SEARCHES_AT_ONCE)

    async def search(self, query: HostQuery) -> HostPage:
        """Returns one page of matching STAC items, newest first as far as the API sorts.

        Raises HostFailed; `timed_out` when the whole answer is not there within the time-out, however it trickles in.
        """
        position = None if query.cursor is None else Position.of(query.cursor)
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        try:
            async with asyncio.timeout_at(deadline), self._slots:
                manners = await self._known_manners(deadline)
                search, reply = await self._ask(query, manners, position, deadline)
        except TimeoutError as error:
            raise HostFailed(f"It did not answer within {self._timeout_s:g} s.", timed_out=True) from error
        return _page(query, search, reply, position)

    async def _known_manners(self, deadline: float) -> Manners:
        if self._manners is not None:
            return self._manners
        answer = await self._send("GET", self._url, deadline)
        try:
            self._manners = Manners.of_landing_page(answer.json_object() if answer.status == 200 else {})
        except HostFailed:
            return Manners()
        return self._manners

    async def _ask(
        self, query: HostQuery, manners: Manners, position: Position | None, deadline: float
    ) -> tuple[Search, dict[str, Any]]:
        """Asks in the API's dialect, and in plainer ones while it declines.

        What it takes of method and sorting is remembered; a declined filter may be about that one property.
        """
        known, plainer = manners, _plainer(query, manners)
        while True:
            search = search_for(query, manners, position)
            answer = await self._send_search(search, deadline)
            if answer.status in {404, 405} and search.method == "POST" and position is None:
                manners = replace(manners, method="GET")
                plainer = _plainer(query, manners)
                search = search_for(query, manners, position)
                answer = await self._send_search(search, deadline)
            if answer.status in _DECLINED and plainer:
                manners = plainer.pop(0)
                continue
            reply = _accepted(answer)
            self._manners = replace(manners, filter_style=known.filter_style)
            return search, reply

    async def _send_search(self, search: Search, deadline: float) -> Answer:
        url = f"{self._url}/search"
        if search.method == "POST":
            return await self._send("POST", url, deadline, content=orjson.dumps(dict(search.fields)))
        return await self._send("GET", url, deadline, params=search.parameters())

    async def _send(self, method: str, url: str, deadline: float, **parts: Any) -> Answer:
        headers = {**self._headers, **({"Content-Type": "application/json"} if "content" in parts else {})}
        return await fetch(self._client, self._client.build_request(method, url, headers=headers, **parts), deadline=deadline)


def _plainer(query: HostQuery, manners: Manners) -> list[Manners]:
    """Returns dialects to fall back on: without sorting, without filters, without both."""
    unsorted = replace(manners, sorts=False)
    unfiltered = replace(manners, filter_style="none")
    both = replace(unsorted, filter_style="none")
    candidates = [unsorted, unfiltered, both] if query.filters else [unsorted]
    return [each for each in dict.fromkeys(candidates) if each != manners]


def _accepted(answer: Answer) -> dict[str, Any]:
    if answer.status >= 400:
        refused = answer.status in _DECLINED
        raise HostFailed(f"It answers {answer.status}{_told(answer) if refused else ''}.", refused=refused)
    if answer.status != 200:
        raise HostFailed(f"It answers {answer.status} in place of a search result.")
    reply = answer.json_object()
    if not isinstance(reply.get("features"), list):
        raise HostFailed("Its answer is no FeatureCollection. Is the source's address that of a STAC API?")
    return reply


def _told(answer: Answer) -> str:
    try:
        problem = answer.json_object()
    except HostFailed:
        return ""
    text = next((problem[key] for key in ("description", "detail", "message") if isinstance(problem.get(key), str)), "")
    return f": {text[:200]}" if text else ""


def _page(query: HostQuery, search: Search, reply: Mapping[str, Any], position: Position | None) -> HostPage:
    items: list[Item] = [item for item in reply["features"] if isinstance(item, dict) and isinstance(item.get("id"), str)]
    mark = hashlib.sha256(orjson.dumps([item["id"] for item in items])).hexdigest()[:12]
    if position is not None and position.mark == mark:
        # The same page again: the API's `next` leads nowhere.
        return HostPage()
    found = matching(items, query)
    further = next_position(reply, items, search, position, mark=mark)
    return HostPage(
        features=found,
        cursor=None if further is None else further.token(),
        matched=_matched(reply) if len(found) == len(items) else None,
    )


def _matched(reply: Mapping[str, Any]) -> int | None:
    context = reply.get("context")
    told = reply.get("numberMatched", context.get("matched") if isinstance(context, Mapping) else None)
    return told if isinstance(told, int) and not isinstance(told, bool) else None
