"""Hosts behind the connectors that sources name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx

from geopera_server.adapters.hosts.archive import SceneIndex
from geopera_server.adapters.hosts.breaker import Breaker
from geopera_server.adapters.hosts.fetch import make_client
from geopera_server.adapters.hosts.stac import StacHost
from geopera_server.ports import Connect, HostFor
from geopera_server.ports.host import Host, HostFailed, HostPage, HostQuery
from geopera_server.settings import Settings

__all__ = ["make_host_for"]


class _Unusable:
    """Stands where a connector cannot be followed, so that one bad source harms only itself."""

    def __init__(self, reason: str) -> None:
        self._reason = reason

    async def search(self, query: HostQuery) -> HostPage:  # noqa: ARG002
        raise HostFailed(self._reason)


class _Hosts:
    """Keeps one host per connector, since hosts remember what they have learned and when they failed."""

    def __init__(self, connect: Connect, settings: Settings, client: httpx.AsyncClient) -> None:
        self._connect = connect
        self._settings = settings
        self._client = client
        self._known: dict[tuple[str, str], Host] = {}

    def __call__(self, connector: Mapping[str, Any]) -> Host:
        if connector.get("kind") == "index":
            return SceneIndex(self._connect, str(connector["host"]))
        key = (str(connector.get("url")), str(connector.get("auth_ref")))
        if key not in self._known:
            self._known[key] = self._make(connector)
        return self._known[key]

    def _make(self, connector: Mapping[str, Any]) -> Host:
        if connector.get("kind") != "stac":
            return _Unusable(f"There is no connector of kind {connector.get('kind')!r}.")
        headers: dict[str, str] = {}
        if reference := connector.get("auth_ref"):
            secret = self._settings.host_auth.get(str(reference))
            if secret is None:
                return _Unusable(f"Its credential {reference!r} is not among GEOPERA_HOST_AUTH.")
            headers["Authorization"] = secret.get_secret_value()
        timeout_s = self._settings.host_timeout_s
        return Breaker(StacHost(self._client, str(connector["url"]), timeout_s=timeout_s, headers=headers))


@asynccontextmanager
async def make_host_for(connect: Connect, settings: Settings) -> AsyncIterator[HostFor]:
    """Yields the function that finds a host by its source's connector, and closes the connections when left.

    A connector is `{kind: stac, url, auth_ref?}` or `{kind: index, host}`; `auth_ref` names one of the settings' host_auth.
    """
    async with make_client() as client:
        yield _Hosts(connect, settings, client)
