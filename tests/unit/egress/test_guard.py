"""The way out: what may be named, what a name may lead to, and that nothing goes around."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket

import pytest

from geopera_server.adapters.egress.guard import Guard
from geopera_server.adapters.egress.rules import is_public
from geopera_server.raster.errors import SourceRefused, SourceUnreadable
from geopera_server.raster.probe import probe
from geopera_server.raster.source import open_source
from support.http_files import HttpFiles


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.1.1", "0.0.0.0", "::1", "fe80::1", "fc00::1",
        "224.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1", "255.255.255.255",
    ],
)  # fmt: skip
def test_private_addresses_are_told(text):
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ["8.8.8.8", "52.218.0.1", "2600:1f18::1", "::ffff:8.8.8.8"])
def test_public_addresses_are_told(text):
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("http://bucket.s3.amazonaws.com/a.tif", "https"),
        ("https://user:word@bucket.s3.amazonaws.com/a.tif", "password"),
        ("https://127.0.0.1/a.tif", "private"),
        ("https://[::1]/a.tif", "private"),
        ("https://elsewhere.example/a.tif", "GEOPERA_RASTER_HOSTS"),
        ("https://amazonaws.com.evil.example/a.tif", "GEOPERA_RASTER_HOSTS"),
        ("https://evilamazonaws.com/a.tif", "GEOPERA_RASTER_HOSTS"),
        ("ftp://bucket.s3.amazonaws.com/a.tif", "https"),
        ("/vsicurl/https://bucket.s3.amazonaws.com/a.tif", "https"),
        ("https://bucket.s3.amazonaws.com:port/a.tif", "https"),
        ("https://bucket.s3.amazonaws.com/a\n.tif", "https"),
        ("https:///a.tif", "https"),
        ("http://store.test:9001/a.tif", "https"),
        ("", "https"),
    ],
)
def test_what_may_not_be_named(href, why):
    assert why in str(Guard(["*.amazonaws.com", "http://store.test:9000"]).refusal_of(href))


@pytest.mark.parametrize(
    "href",
    [
        "https://bucket.s3.amazonaws.com/a.tif",
        "https://BUCKET.S3.AMAZONAWS.COM:443/a.tif?signature=x",
        "http://store.test:9000/a.tif",
        "https://one.example/a.tif",
    ],
)
def test_what_may_be_named(href):
    assert Guard(["*.amazonaws.com", "http://store.test:9000", "one.example"]).refusal_of(href) is None


def test_an_entry_that_is_no_origin_is_refused_at_start():
    with pytest.raises(ValueError, match="no http"):
        Guard(["ftp://store.test"])


@pytest.fixture
def files(shared_data):
    with HttpFiles(shared_data / "imagery") as server:
        yield server


NAME = "umbra_sar_mount_yasur.tif"


async def read(href, way):
    return await asyncio.to_thread(_read, href, way)


def _read(href, way):
    with open_source(href, way=way) as source:
        return source.dataset.width


async def test_a_listed_origin_is_read_and_nothing_else_is(files):
    guard = Guard([files.url("")])
    async with guard.open():
        assert await read(files.url(NAME), guard.way_to_listed()) == 2000
        requests = len(files.requests)
        with pytest.raises(SourceRefused, match="not read from here"):
            await read(files.url(NAME).replace("127.0.0.1", "localhost"), guard.way_to_listed())
        with pytest.raises(SourceRefused):
            await read(files.url(NAME), guard.way_to_public())
        with pytest.raises(SourceRefused):
            await read(files.url(NAME).replace("http:", "https:"), guard.way_to_public())
        assert len(files.requests) == requests


async def test_a_catalogue_is_read_where_it_is_known(files):
    guard = Guard([])
    async with guard.open():
        assert await read(files.url(NAME), guard.way_to_public(known_host="127.0.0.1")) == 2000


async def test_a_redirect_is_judged_like_a_first_address(files, shared_data):
    with HttpFiles(shared_data / "imagery") as inner:
        files.redirect("away.tif", inner.url(NAME))
        guard = Guard([files.url("")])
        async with guard.open():
            with pytest.raises(SourceRefused):
                await read(files.url("away.tif"), guard.way_to_listed())
        assert inner.requests == []


async def test_a_name_that_leads_inside_is_not_followed(monkeypatch, files):
    port = files.port

    async def resolved(self, host, port_asked, **more):
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolved)
    guard = Guard(["rebound.example"])
    assert guard.refusal_of("https://rebound.example/a.tif") is None
    async with guard.open():
        with pytest.raises(SourceRefused):
            await read("https://rebound.example/a.tif", guard.way_to_listed())
    assert files.requests == []


async def test_rules_cannot_be_chosen_by_who_connects(files):
    guard = Guard([])
    async with guard.open():
        way = dict(guard.way_to_public(known_host="127.0.0.1"))
        user, _, signature = way["GDAL_HTTP_PROXYUSERPWD"].partition(":")
        for forged in (
            f"{user}:{'0' * 32}",
            f"{dict(guard.way_to_public())['GDAL_HTTP_PROXYUSERPWD'].partition(':')[0]}:{signature}",
        ):
            with pytest.raises(SourceUnreadable):
                await read(files.url(NAME), {**way, "GDAL_HTTP_PROXYUSERPWD": forged})
    assert files.requests == []


async def test_the_environment_leads_nothing_around_it(files, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    guard = Guard([])
    async with guard.open():
        assert "NO_PROXY" not in os.environ
        with pytest.raises(SourceRefused):
            await read(files.url(NAME), guard.way_to_public())
    assert files.requests == []


@pytest.mark.parametrize(
    "head", [b"\r\n\r\n", b"GET\r\n\r\n", b"CONNECT nobody\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe x y\r\n\r\n"]
)
async def test_nonsense_is_refused(head):
    guard = Guard([])
    async with guard.open():
        host, port = guard.way_to_listed()["GDAL_HTTP_PROXY"].removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(head)
        assert b" 451 " in await reader.readline()
        writer.close()


def test_probing_needs_no_way(shared_data):
    assert probe(str(shared_data / "imagery" / NAME)).width == 2000
