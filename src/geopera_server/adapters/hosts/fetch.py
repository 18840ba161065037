"""Fetches JSON from hosts that may be slow, down, endless or something else than they say."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import orjson

from geopera_server.ports.host import HostFailed
from geopera_server.values.clock import now

CONNECT_TIMEOUT_S = 3.0
MAX_REPLY_BYTES = 64 * 1024 * 1024
MAX_HOPS = 3
TRIES = 3
FIRST_PAUSE_S = 0.25
_WORTH_ANOTHER_TRY = frozenset({429, 502, 503})
_BROKEN_LINE = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply of a host: its status, and its JSON if it is any."""

    status: int
    body: bytes
    retry_after: str | None = None
    location: str | None = None

    def json_object(self) -> dict[str, Any]:
        """Returns the JSON object of the body; raises HostFailed for anything else."""
        if self.body.lstrip()[:1] == b"<":
            raise HostFailed("It answered with a web page in place of STAC.")
        try:
            found = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise HostFailed("Its answer is not JSON.") from error
        if not isinstance(found, dict):
            raise HostFailed("Its answer is not a JSON object.")
        return found


def make_client() -> httpx.AsyncClient:
    """Returns the client that all hosts share; the caller closes it. It follows no redirects."""
    return httpx.AsyncClient(
        limits=httpx.Limits(max_connections=64, max_keepalive_connections=32, keepalive_expiry=30.0),
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        headers={"Accept": "application/geo+json, application/json", "Accept-Encoding": "gzip"},
    )


async def fetch(client: httpx.AsyncClient, request: httpx.Request, *, deadline: float) -> Answer:
    """Returns the host's answer, after at most two more tries while it says it is busy or cannot be reached.

    `deadline` is in the event loop's time; a pause that would pass it is not taken. Redirects within the host are followed.
    Raises HostFailed when no whole answer comes; statuses are the caller's to judge.
    """
    for attempt in range(TRIES):
        try:
            answer = await _follow(client, request)
            if answer.status not in _WORTH_ANOTHER_TRY:
                return answer
            failure = HostFailed(f"It answers {answer.status}.", timed_out=False)
            pause_s = _asked_pause_s(answer.retry_after)
        except httpx.TimeoutException as error:
            raise HostFailed("It cannot be reached in time.", timed_out=True) from error
        except _BROKEN_LINE as error:
            failure, pause_s = HostFailed(f"It cannot be reached ({type(error).__name__})."), None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise HostFailed(f"Its answer cannot be read ({type(error).__name__}).") from error
        if pause_s is None:
            # Half fixed, half random, so that callers who failed together do not come back together.
            pause_s = FIRST_PAUSE_S * 2**attempt * (0.5 + random.random() / 2)  # noqa: S311
        if attempt == TRIES - 1 or asyncio.get_running_loop().time() + pause_s >= deadline:
            raise failure
        await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")


async def _follow(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    for _ in range(MAX_HOPS):
        answer = await _read(client, request)
        if answer.location is None or answer.status not in {301, 302, 307, 308}:
            return answer
        target = request.url.join(answer.location)
        if (target.scheme, target.netloc) != (request.url.scheme, request.url.netloc):
            raise HostFailed(f"It sends us on to {target.host}. Set the source's address to where it really is.")
        request = client.build_request(request.method, target, headers=_kept(request.headers), content=request.content)
    raise HostFailed("It sends us round in circles.")


def _kept(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in {"content-length", "host"}}


async def _read(client: httpx.AsyncClient, request: httpx.Request) -> Answer:
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                raise HostFailed(f"Its answer is larger than {MAX_REPLY_BYTES >> 20} MB.")
        headers = response.headers
        return Answer(response.status_code, bytes(body), headers.get("retry-after"), headers.get("location"))
    finally:
        await response.aclose()


def _asked_pause_s(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        at: datetime = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max(0.0, (at - now()).total_seconds()) if at.tzinfo is not None else None
