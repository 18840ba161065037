"""Files at signed addresses: whole or in parts, broken off, too large, late, twice at once."""

from __future__ import annotations

import asyncio
import base64
import hashlib

import google_crc32c
import httpx
import pytest

from geopera_server.domains.uploads import receiving
from geopera_server.domains.uploads.granting import Grant, address
from geopera_server.transports.http import uploads
from geopera_server.values.ids import new_id
from support.serving import problem_of
from support.uploads import TIFF, address_of, begun, objects_below, put, reserved

FILE = "scene.tif"


def random_bytes(size: int, seed: int = 0) -> bytes:
    return hashlib.shake_128(seed.to_bytes(4, "big")).digest(size)


def crc32c(data: bytes) -> str:
    checksum = google_crc32c.Checksum()
    checksum.update(data)
    return base64.b64encode(checksum.digest()).decode()


@pytest.fixture
def home(server):
    return server.home


@pytest.fixture
def project_id(place):
    return place.home.project_id


async def file_of(home, upload_id: str) -> dict:
    [file] = (await home.op("uploads.get", {"upload_id": upload_id}))["files"]
    return file


async def test_a_whole_file(server, home, project_id, place, tmp_path):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    assert url.startswith(server.base_url)
    assert url.endswith("/" + FILE)
    assert (await file_of(home, upload_id))["status"] == "waiting"
    data = random_bytes(3_000_000)
    response = await put(server.http, url, data)
    assert response.status_code == 200, response.text
    told = response.json()
    assert told["size_bytes"] == len(data)
    assert told["checksum_sha256"] == hashlib.sha256(data).hexdigest()
    assert told["checksum_crc32c"] == crc32c(data)
    assert told["object_path"] == f"projects/{project_id}/uploads/{upload_id}/raw/{FILE}"
    file = await file_of(home, upload_id)
    assert (file["status"], file["bytes_received"], file["checksum_crc32c"]) == ("received", len(data), crc32c(data))
    upload = (await home.op("uploads.get", {"upload_id": upload_id}))["upload"]
    assert (upload["status"], upload["bytes_uploaded"], upload["reserved_bytes"]) == ("uploading", len(data), len(data))
    assert await reserved(server.sql, place.home.organization_id) == (len(data), len(data))
    [stored] = objects_below(tmp_path)
    assert (tmp_path / "objects" / stored).read_bytes() == data
    asked = await server.http.head(url)
    assert (asked.status_code, asked.headers["etag"]) == (200, f'"{told["checksum_sha256"]}"')


async def test_a_repeated_put_replaces(server, home, project_id, place, tmp_path):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    for data in (random_bytes(200_000), random_bytes(50_000, 1)):
        assert (await put(server.http, url, data)).status_code == 200
    assert (await file_of(home, upload_id))["bytes_received"] == 50_000
    [stored] = objects_below(tmp_path)
    assert (tmp_path / "objects" / stored).read_bytes() == data
    assert await reserved(server.sql, place.home.organization_id) == (50_000, 50_000)


async def test_parts_are_joined(server, home, project_id, monkeypatch, tmp_path):
    monkeypatch.setattr(receiving, "PIECE_BYTES", 65_536)
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    data = random_bytes(700_000)
    nothing = await put(server.http, url, b"", Content_Range="bytes */700000")
    assert (nothing.status_code, "range" in nothing.headers) == (308, False)
    first = await put(server.http, url, data[:300_000], Content_Range="bytes 0-299999/700000")
    assert (first.status_code, first.headers["range"]) == (308, "bytes=0-299999")
    asked = await server.http.head(url)
    assert (asked.status_code, asked.headers["range"]) == (308, "bytes=0-299999")
    assert (await file_of(home, upload_id))["status"] == "receiving"
    # Sent again from further back, as after an answer that was lost, what is known is passed over.
    second = await put(server.http, url, data[250_000:500_000], Content_Range="bytes 250000-499999/700000")
    assert second.headers["range"] == "bytes=0-499999"
    gap = await put(server.http, url, data[600_000:], Content_Range="bytes 600000-699999/700000")
    assert (gap.status_code, gap.headers["range"]) == (308, "bytes=0-499999")
    fresh = await address_of(home, upload_id, FILE)
    last = await put(server.http, fresh, data[500_000:], Content_Range="bytes 500000-699999/700000")
    assert last.status_code == 200, last.text
    assert last.json()["checksum_sha256"] == hashlib.sha256(data).hexdigest()
    assert last.json()["checksum_crc32c"] == crc32c(data)
    [stored] = objects_below(tmp_path)
    assert (tmp_path / "objects" / stored).read_bytes() == data
    assert (await put(server.http, url, b"", Content_Range="bytes */*")).status_code == 200


async def test_the_size_may_come_with_the_last_part(server, home, project_id):
    url = await address_of(home, await begun(home, project_id), FILE)
    data = random_bytes(90_000)
    assert (await put(server.http, url, data[:50_000], Content_Range="bytes 0-49999/*")).status_code == 308
    done = await put(server.http, url, data[50_000:], Content_Range="bytes 50000-89999/90000")
    assert done.json()["checksum_sha256"] == hashlib.sha256(data).hexdigest()


async def test_a_part_from_the_start_begins_anew(server, home, project_id, tmp_path):
    url = await address_of(home, await begun(home, project_id), FILE)
    assert (await put(server.http, url, random_bytes(400), Content_Range="bytes 0-399/1000")).status_code == 308
    data = random_bytes(600, 7)
    assert (await put(server.http, url, data[:300], Content_Range="bytes 0-299/600")).headers["range"] == "bytes=0-299"
    done = await put(server.http, url, data[300:], Content_Range="bytes 300-599/600")
    assert done.json()["checksum_sha256"] == hashlib.sha256(data).hexdigest()
    assert len(objects_below(tmp_path)) == 1


async def broken_off(url: str, data: bytes, *, declared: int, **headers: str) -> None:
    """Sends a beginning and closes the connection."""
    target = httpx.URL(url)
    _reader, writer = await asyncio.open_connection(target.host, target.port)
    lines = [f"PUT {target.raw_path.decode()} HTTP/1.1", f"Host: {target.host}", f"Content-Type: {TIFF}"]
    lines += [f"Content-Length: {declared}", *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(lines).encode() + data)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def until(condition) -> None:
    deadline = asyncio.get_running_loop().time() + 10
    while not await condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def test_a_broken_connection_leaves_nothing(server, home, project_id, tmp_path):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    kept = random_bytes(1_000)
    assert (await put(server.http, url, kept)).status_code == 200
    before = objects_below(tmp_path)
    seen = []
    real = server.house.store.put_stream

    async def watched(path, chunks, **more):
        try:
            return await real(path, chunks, **more)
        except BaseException as error:
            seen.append(type(error).__name__)
            raise

    server.house.store.put_stream = watched
    await broken_off(url, random_bytes(20_000_000, 3), declared=40_000_000)

    async def noticed():
        return bool(seen)

    await until(noticed)
    assert seen == ["ClientDisconnect"]
    assert objects_below(tmp_path) == before
    assert (await file_of(home, upload_id))["bytes_received"] == 1_000


async def test_a_broken_part_goes_on_where_it_broke_off(server, home, project_id, monkeypatch):
    monkeypatch.setattr(receiving, "PIECE_BYTES", 65_536)
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    data = random_bytes(2_000_000)
    await broken_off(url, data[:1_234_567], declared=2_000_000, Content_Range="bytes 0-1999999/2000000")

    async def kept():
        return (await server.http.head(url)).headers.get("range") == "bytes=0-1234566"

    await until(kept)
    rest = await put(server.http, url, data[1_234_567:], Content_Range="bytes 1234567-1999999/2000000")
    assert rest.json()["checksum_sha256"] == hashlib.sha256(data).hexdigest()


async def test_two_at_once_never_mix(server, home, project_id, tmp_path):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    contents = [random_bytes(3_000_000, number) for number in range(4)]

    async def slowly(data):
        for start in range(0, len(data), 300_000):
            yield data[start : start + 300_000]
            await asyncio.sleep(0)

    responses = await asyncio.gather(*(put(server.http, url, slowly(data)) for data in contents))
    assert [response.status_code for response in responses] == [200] * 4
    [stored] = objects_below(tmp_path)
    data = (tmp_path / "objects" / stored).read_bytes()
    assert data in contents
    assert (await file_of(home, upload_id))["checksum_sha256"] == hashlib.sha256(data).hexdigest()


async def test_two_transfers_in_parts_never_mix(server, home, project_id):
    url = await address_of(home, await begun(home, project_id), FILE)
    one, other = random_bytes(1_000), random_bytes(1_000, 1)
    assert (await put(server.http, url, one[:500], Content_Range="bytes 0-499/1000")).status_code == 308
    assert (await put(server.http, url, other[:500], Content_Range="bytes 0-499/1000")).status_code == 308
    done = await put(server.http, url, other[500:], Content_Range="bytes 500-999/1000")
    assert done.json()["checksum_sha256"] == hashlib.sha256(other).hexdigest()
    late = await put(server.http, url, one[500:], Content_Range="bytes 500-999/1000")
    assert (late.status_code, problem_of(late)["code"]) == (409, "conflict")


async def test_more_than_declared_is_refused_while_it_comes(server, home, project_id, tmp_path):
    upload_id = await begun(home, project_id, total_bytes=1_000, file_count=2)
    first, second = [await address_of(home, upload_id, name) for name in ("a.tif", "b.tif")]
    assert (await put(server.http, first, b"x" * 600)).status_code == 200

    async def undeclared():
        for _ in range(10):
            yield b"y" * 100

    for content, more in ((b"y" * 401, {}), (undeclared(), {}), (b"y" * 200, {"Content_Range": "bytes 0-199/401"})):
        refused = await put(server.http, second, content, **more)
        assert (refused.status_code, problem_of(refused)["code"]) == (413, "body_too_large")
    assert len(objects_below(tmp_path)) == 1
    assert (await put(server.http, second, b"y" * 400)).status_code == 200


async def test_the_plan_caps_an_upload(server, home, project_id, place, tmp_path):
    await server.sql("UPDATE plan SET limits = limits || '{\"max_upload_bytes\": 1000}'")
    assert await home.refused("uploads.initiate", {"project_id": project_id, "total_bytes": 1_001}) == (
        402,
        "plan_limit_reached",
    )
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    assert (await put(server.http, url, b"x" * 1_001)).status_code == 413
    assert (await put(server.http, url, b"x" * 1_000)).status_code == 200
    assert await reserved(server.sql, place.home.organization_id) == (1_000, 1_000)
    assert len(objects_below(tmp_path)) == 1


async def test_room_grows_with_what_comes_and_ends_at_the_quota(server, home, project_id, place, tmp_path):
    await server.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1000}', overage = '{}'")
    upload_id = await begun(home, project_id, file_count=2)
    first, second = [await address_of(home, upload_id, name) for name in ("a.tif", "b.tif")]
    assert (await put(server.http, first, b"x" * 700)).status_code == 200
    assert await reserved(server.sql, place.home.organization_id) == (700, 700)

    async def undeclared():
        yield b"y" * 301

    for content in (b"y" * 301, undeclared()):
        refused = await put(server.http, second, content)
        assert (refused.status_code, problem_of(refused)["code"]) == (402, "storage_quota_exceeded")
    assert len(objects_below(tmp_path)) == 1
    assert (await put(server.http, second, b"y" * 300)).status_code == 200
    asked = {"upload_id": upload_id, "file_name": "a.tif"}
    assert await home.refused("uploads.signed_url", asked) == (402, "storage_quota_exceeded")


async def test_the_content_type_is_part_of_the_address(server, home, project_id):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE, "image/tiff; application=geotiff")
    refused = await put(server.http, url, b"x", "image/png")
    assert (refused.status_code, problem_of(refused)["code"]) == (422, "invalid_input")
    assert (await put(server.http, url, b"x", "Image/TIFF;application=geotiff")).status_code == 200
    plain = (await home.op("uploads.signed_url", {"upload_id": upload_id, "file_name": FILE}))["upload_url"]
    assert (await server.http.put(plain, content=b"x")).status_code == 200


@pytest.mark.parametrize(
    "header", ["bytes 0-10", "bytes 5-4/10", "bytes 0-10/10", "bytes=0-4/10", "bytes a-b/c", "items 0-4/10", "bytes 0-9/1e9"]
)
async def test_ranges_that_make_no_sense(server, home, project_id, header):
    url = await address_of(home, await begun(home, project_id), FILE)
    refused = await put(server.http, url, b"x" * 10, Content_Range=header)
    assert refused.status_code == 422, refused.text


@pytest.mark.parametrize("size", [4, 6])
async def test_a_part_has_the_bytes_it_names(server, home, project_id, size):
    url = await address_of(home, await begun(home, project_id), FILE)
    refused = await put(server.http, url, b"x" * size, Content_Range="bytes 0-4/10")
    assert refused.status_code == 422, refused.text


async def test_addresses_end_and_cannot_be_made_up(server, home, project_id, place):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)
    [row] = await server.sql("SELECT id FROM upload_file")
    links = server.house.links
    grant = Grant(
        organization_id=place.home.organization_id, upload_id=upload_id, file_id=row["id"], content_type=TIFF, expires=1
    )
    late = await put(server.http, address(links, grant, FILE), b"x")
    assert (late.status_code, problem_of(late)["code"]) == (410, "expired")
    token = url.split("/")[-2]
    for wrong in (
        token[:-1] + ("A" if token[-1] != "A" else "B"),
        "nonsense",
        links.seal("something else"),
        token.split(".")[0],
    ):
        refused = await put(server.http, f"/uploads/{wrong}/{FILE}", b"x")
        assert (refused.status_code, problem_of(refused)["code"]) == (404, "not_found")
    foreign = Grant(
        organization_id=place.stranger.organization_id, upload_id=upload_id, file_id=row["id"], content_type=TIFF, expires=2**40
    )
    assert (await put(server.http, address(links, foreign, FILE), b"x")).status_code == 404
    unknown = Grant(
        organization_id=place.home.organization_id, upload_id=new_id(), file_id=row["id"], content_type=TIFF, expires=2**40
    )
    assert (await put(server.http, address(links, unknown, FILE), b"x")).status_code == 404


async def test_an_ended_session_takes_nothing(server, home, project_id, place, tmp_path):
    upload_id = await begun(home, project_id, total_bytes=5_000)
    url = await address_of(home, upload_id, FILE)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def interrupted():
        yield b"x" * 2_500
        reached.set()
        await go_on.wait()
        yield b"x" * 2_500

    async with httpx.AsyncClient(base_url=server.base_url) as other:
        putting = asyncio.create_task(put(other, url, interrupted()))
        await reached.wait()
        await home.op("uploads.fail", {"upload_id": upload_id, "error_message": "Never mind."})
        go_on.set()
        late = await putting
    assert (late.status_code, problem_of(late)["code"]) == (409, "illegal_state")
    again = await put(server.http, url, b"x")
    assert (again.status_code, problem_of(again)["code"]) == (409, "illegal_state")
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)

    async def gone():
        return objects_below(tmp_path) == set()

    await until(gone)


@pytest.mark.parametrize("part", [{}, {"Content_Range": "bytes 0-0/1"}])
async def test_a_writer_broken_off_by_the_end_of_its_session_is_told_of_the_end(server, home, project_id, part):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, FILE)

    async def swept(_path, _chunks, **_more):
        await home.op("uploads.fail", {"upload_id": upload_id, "error_message": "Never mind."})
        raise RuntimeError("Upload aborted")

    server.house.store.put_stream = swept
    late = await put(server.http, url, b"x", **part)
    assert (late.status_code, problem_of(late)["code"]) == (409, "illegal_state")


async def test_an_address_ends_with_what_it_leads_to(server, home, project_id, place, tmp_path):
    url = await address_of(home, await begun(home, project_id, total_bytes=5), FILE)
    await home.op("projects.archive", {"project_id": project_id})
    refused = await put(server.http, url, b"x")
    assert (refused.status_code, problem_of(refused)["code"]) == (409, "illegal_state")
    await home.op("projects.archive", {"project_id": project_id, "is_archived": False})
    await server.sql("UPDATE organization SET standing = 'suspended' WHERE id = %s", place.home.organization_id)
    refused = await put(server.http, url, b"x")
    assert (refused.status_code, problem_of(refused)["code"]) == (403, "org_suspended")
    await server.sql("UPDATE organization SET standing = 'active' WHERE id = %s", place.home.organization_id)
    await home.op("projects.delete", {"project_id": project_id})
    assert (await put(server.http, url, b"x")).status_code == 404
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)
    assert objects_below(tmp_path) == set()


async def test_browsers_may_send_parts(server, home, project_id):
    url = await address_of(home, await begun(home, project_id), FILE)
    asked = await server.http.options(
        url,
        headers={
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "PUT",
            "Access-Control-Request-Headers": "content-range,content-type",
        },
    )
    assert asked.status_code == 200, asked.text
    part = await put(server.http, url, b"xx", Content_Range="bytes 0-1/4", Origin="https://app.example")
    assert "Range" in part.headers["access-control-expose-headers"]


async def test_files_that_come_at_once_share_what_was_declared(server, home, project_id, tmp_path):
    upload_id = await begun(home, project_id, total_bytes=1_000, file_count=2)
    urls = [await address_of(home, upload_id, name) for name in ("a.tif", "b.tif")]
    ready, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def held():
        yield b"x" * 500
        ready.release()
        await go_on.wait()
        yield b"x" * 500

    putting = [asyncio.create_task(put(server.http, url, held())) for url in urls]
    await ready.acquire()
    await ready.acquire()
    go_on.set()
    answers = sorted(response.status_code for response in await asyncio.gather(*putting))
    assert answers == [200, 413]
    assert len(objects_below(tmp_path)) == 1


async def test_whoever_joins_second_finds_the_file_complete(server, home, project_id, tmp_path):
    url = await address_of(home, await begun(home, project_id), FILE)
    data = random_bytes(1_000)
    assert (await put(server.http, url, data[:500], Content_Range="bytes 0-499/1000")).status_code == 308
    real, joining, go_on = server.house.store.put_stream, asyncio.Event(), asyncio.Event()

    async def held(path, chunks, **more):
        if "/raw/" in path and not joining.is_set():
            joining.set()
            await go_on.wait()
        return await real(path, chunks, **more)

    server.house.store.put_stream = held
    first = asyncio.create_task(put(server.http, url, data[500:], Content_Range="bytes 500-999/1000"))
    await joining.wait()
    # The sender has lost patience and asks how far it got.
    second = await put(server.http, url, b"", Content_Range="bytes */1000")
    go_on.set()
    for response in (second, await first):
        assert (response.status_code, response.json()["checksum_sha256"]) == (200, hashlib.sha256(data).hexdigest())
    assert len(objects_below(tmp_path)) == 1


async def test_bytes_without_end_are_stopped_when_there_is_no_room(server, home, project_id, tmp_path, monkeypatch):
    monkeypatch.setattr(receiving, "ASKED_EVERY_BYTES", 100_000)
    await server.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 500000}', overage = '{}'")
    url = await address_of(home, await begun(home, project_id), FILE)
    real, taken = server.house.store.put_stream, []

    async def counted(path, chunks, **more):
        async def passing():
            async for chunk in chunks:
                taken.append(len(chunk))
                yield chunk

        return await real(path, passing(), **more)

    server.house.store.put_stream = counted

    async def much():
        for _ in range(400):
            yield bytes(50_000)

    refused = await put(server.http, url, much())
    assert (refused.status_code, problem_of(refused)["code"]) == (402, "storage_quota_exceeded")
    assert sum(taken) < 1_000_000
    assert objects_below(tmp_path) == set()


async def test_a_silent_sender_is_not_waited_for(server, home, project_id, monkeypatch, tmp_path):
    monkeypatch.setattr(uploads, "IDLE_S", 0.05)
    url = httpx.URL(await address_of(home, await begun(home, project_id), FILE))
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"PUT {url.raw_path.decode()} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: {TIFF}\r\nContent-Length: 9\r\n\r\nxx"
    writer.write(head.encode())
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"request_timeout"' in answer
    writer.close()
    await writer.wait_closed()
    assert objects_below(tmp_path) == set()


async def test_packed_bytes_are_not_taken_for_the_file(server, home, project_id):
    url = await address_of(home, await begun(home, project_id), FILE)
    refused = await put(server.http, url, b"x", Content_Encoding="gzip")
    assert (refused.status_code, problem_of(refused)["code"]) == (422, "invalid_input")
