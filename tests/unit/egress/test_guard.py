"""The way out: what may be named, what a name may lead to, and that nothing goes around."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import ipaddress
import os
import socket
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from geopera_server.adapters.egress.guard import Guard
from geopera_server.adapters.egress.rules import is_public
from geopera_server.raster.errors import SourceRefused, SourceUnreadable
from geopera_server.raster.probe import probe
from geopera_server.raster.source import open_source
from support.http_files import HttpFiles
from support.loopback import LoopbackServer


@pytest.mark.parametrize(
    "text",
    [
        "10.0.0.1", "127.0.0.1", "169.254.169.254", "100.64.0.1", "192.168.1.1", "0.0.0.0", "::1", "fe80::1", "fc00::1",
        "224.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "198.18.0.1", "255.255.255.255",
        "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::a00:1", "fec0::1", "fd00:ec2::254", "3fff::1", "5f00::1", "ff02::1",
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


class TlsFiles:
    """One file over TLS, on connections that stay open; `away` is where all else leads once it is set."""

    def __init__(self, file, folder):
        self.asked = 0
        self.away = None
        body = file.read_bytes()
        outside = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outside.asked += 1
                self.send_response(302 if outside.away else 206 if "Range" in self.headers else 200)
                part = body
                if outside.away:
                    part = b""
                    self.send_header("Location", outside.away + NAME)
                elif "Range" in self.headers:
                    first, last = (int(each) for each in self.headers["Range"].removeprefix("bytes=").split("-"))
                    part = body[first : last + 1]
                    self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(body)}")
                self.send_header("Content-Length", str(len(part)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(part)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_):
                pass

        self._server = LoopbackServer(Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def tls_files(shared_data, tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    born = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    cert = made.not_valid_before(born).not_valid_after(born + dt.timedelta(days=1)).sign(key, hashes.SHA256())
    (tmp_path / "cert.pem").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tmp_path / "key.pem").write_bytes(key.private_bytes(*pem))
    servers = [TlsFiles(shared_data / "imagery" / NAME, tmp_path) for _ in range(2)]
    yield servers
    for server in servers:
        server.close()


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


async def test_only_this_process_is_let_out(files):
    guard = Guard([])
    async with guard.open():
        way = dict(guard.way_to_public(known_host="127.0.0.1"))
        for forged in ("geopera:" + "0" * 64, "geopera:", "geopera"):
            with pytest.raises(SourceUnreadable):
                await read(files.url(NAME), {**way, "GDAL_HTTP_PROXYUSERPWD": forged})
    assert files.requests == []


async def test_a_tunnel_is_not_used_again_under_another_rule(tls_files):
    """What was connected to for a catalogue stays open, and a redirect of a listed host leads there."""
    outer, inner = tls_files
    outer.away = inner.url
    guard = Guard([outer.url])
    with ThreadPoolExecutor(1) as thread:

        async def asked(url, way):
            way = {**way, "GDAL_HTTP_UNSAFESSL": "YES"}
            return await asyncio.get_running_loop().run_in_executor(thread, _read, url + NAME, way)

        async with guard.open():
            assert await asked(inner.url, guard.way_to_public(known_host="127.0.0.1")) == 2000
            asked_before = inner.asked
            with pytest.raises(SourceRefused):
                await asked(inner.url, guard.way_to_public())
            with pytest.raises(SourceRefused):
                await asked(outer.url, guard.way_to_listed())
    assert outer.asked > 0
    assert inner.asked == asked_before


async def test_a_plain_connection_is_used_for_one_request(files):
    guard = Guard([files.url("")])
    async with guard.open():
        way = guard.way_to_listed()
        host, port = way["GDAL_HTTP_PROXY"].removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        login = base64.b64encode(way["GDAL_HTTP_PROXYUSERPWD"].encode()).decode()
        head = f"Host: x\r\nProxy-Authorization: Basic {login}\r\n\r\n"
        writer.write(f"HEAD {files.url(NAME)} HTTP/1.1\r\n{head}".encode())
        assert b" 200 " in await reader.readline()
        writer.write(f"HEAD http://elsewhere.test/second.tif HTTP/1.1\r\n{head}".encode())
        rest = await reader.read()
        assert b"HTTP/1." not in rest
        writer.close()
    assert [each.name for each in files.requests] == [NAME]


async def test_there_is_no_way_before_the_guard_is_open():
    with pytest.raises(RuntimeError, match="no way out"):
        Guard([]).way_to_listed()


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
