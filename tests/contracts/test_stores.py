"""What every object store promises, whichever it is: a folder, a bucket that speaks S3, or memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import obstore.store
import pytest
import pytest_asyncio

from geopera_server.adapters.storage import objects as adapter
from geopera_server.adapters.storage.objects import Objects, local_objects
from geopera_server.ports.store import ObjectMissing
from support.s3 import BUCKET, served_bucket

PATH = "projects/p/uploads/u/raw/1/a.tif"


@pytest_asyncio.fixture(params=["folder", "s3", "memory"])
async def store(request, tmp_path) -> AsyncIterator[Objects]:
    if request.param == "folder":
        yield local_objects(tmp_path / "objects")
    elif request.param == "memory":
        yield Objects(obstore.store.MemoryStore())
    else:
        async with served_bucket() as (bucket, endpoint):
            made = Objects(
                obstore.store.S3Store(
                    BUCKET, endpoint=endpoint, access_key_id="test", secret_access_key="test", region="us-east-1",
                    client_options={"allow_http": True},
                )
            )  # fmt: skip
            made.bucket = bucket
            yield made
            assert bucket.unfinished == {}, "a broken-off upload was left in the bucket"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    # The smallest that S3 takes.
    monkeypatch.setattr(adapter, "PART_BYTES", 5 * 1024 * 1024)


async def pieces(data: bytes, size: int = 700_000, *, error: BaseException | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]
        await asyncio.sleep(0)
    if error is not None:
        raise error


async def content(store: Objects, path: str = PATH) -> bytes:
    size = await store.size(path)
    return b"".join([chunk async for chunk in store.read(path, 0, size)])


async def paths(store: Objects, folder: str = "projects") -> set[str]:
    return {found.path async for found in store.list(folder)}


@pytest.mark.parametrize("size", [0, 1, 5 * 1024 * 1024, 12_345_678])
async def test_a_stream_is_stored_whole(store, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    assert await store.put_stream(PATH, pieces(data), expected_bytes=size) == size
    assert await content(store) == data
    assert await paths(store) == {PATH}


async def test_large_streams_go_in_parts(store):
    if not hasattr(store, "bucket"):
        return
    await store.put_stream(PATH, pieces(b"x" * 16_000_000))
    assert store.bucket.parts_taken == 4


@pytest.mark.parametrize("size", [1_000, 12_000_000])
async def test_a_stream_that_breaks_leaves_what_was_there(store, size):
    await store.put_stream(PATH, pieces(b"before"))
    with pytest.raises(ConnectionResetError, match="gone"):
        await store.put_stream(PATH, pieces(b"y" * size, error=ConnectionResetError("gone")))
    assert await content(store) == b"before"
    assert await paths(store) == {PATH}


async def test_a_cancelled_stream_leaves_nothing(store):
    reached = asyncio.Event()

    async def endless():
        while True:
            yield b"z" * 1_000_000
            await asyncio.sleep(0)
            reached.set()

    task = asyncio.create_task(store.put_stream(PATH, endless()))
    await reached.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await paths(store) == set()
    if hasattr(store, "bucket"):
        # Nobody is left to abort it: buckets need a rule for unfinished uploads.
        await asyncio.sleep(0.2)
        store.bucket.unfinished.clear()


async def test_streams_to_one_path_never_mix(store):
    contents = [bytes([number]) * 6_000_000 for number in range(3)]
    await asyncio.gather(*(store.put_stream(PATH, pieces(data)) for data in contents))
    assert await content(store) in contents


async def test_an_object_becomes_a_file(store, tmp_path):
    data = b"pixels" * 500_000
    await store.put_stream(PATH, pieces(data))
    await store.fetch(PATH, tmp_path / "fetched.tif")
    assert (tmp_path / "fetched.tif").read_bytes() == data
    await store.delete(PATH)
    assert (tmp_path / "fetched.tif").read_bytes() == data
    with pytest.raises(ObjectMissing):
        await store.fetch(PATH, tmp_path / "again.tif")


async def test_a_folder_goes_but_for_what_is_kept(store):
    folder = "projects/p/uploads/u"
    named = [
        f"{folder}/raw/1/a.tif",
        f"{folder}/raw/2/b.tif",
        f"{folder}/processed/1/c.tif",
        "projects/p/uploads/u2/raw/1/d.tif",
    ]
    for path in named:
        await store.put_stream(path, pieces(b"x"))
    assert await store.delete_folder(folder, keep={named[2]}) == 2
    assert await paths(store) == {named[2], named[3]}
    assert await store.delete_folder(folder) == 1
    assert await store.delete_folder(folder) == 0
    assert await paths(store) == {named[3]}


async def test_what_a_killed_writer_left_goes_with_its_folder(tmp_path):
    store = local_objects(tmp_path / "objects")
    await store.put_stream(PATH, pieces(b"x"))
    left = tmp_path / "objects" / f"{PATH}#1"
    left.write_bytes(b"half")
    assert await paths(store) == {PATH}
    assert await store.delete_folder("projects/p/uploads/u", keep={PATH}) == 0
    assert (left.exists(), await content(store)) == (False, b"x")
    await store.delete_folder("projects/p/uploads/u")
    assert not (tmp_path / "objects" / "projects/p/uploads/u").exists()
