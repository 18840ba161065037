"""Completing: what is made sure of first, what is refused, and what the background work leaves behind when it fails."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest
import pytest_asyncio
import rasterio
from affine import Affine

from geopera_server.domains.uploads import unpacking
from geopera_server.domains.uploads.closing import PROCESS
from geopera_server.raster import ingest
from geopera_server.raster.errors import WriteFailed
from geopera_server.values.ids import new_id
from support.serving import problem_of, served
from support.uploads import address_of, begun, objects_below, put, reserved, sent, until_processed


@pytest.fixture(scope="module")
def tiff(tmp_path_factory) -> bytes:
    """A small GeoTIFF of two bands that is no COG."""
    path = tmp_path_factory.mktemp("made") / "made.tif"
    values = np.random.default_rng(1).integers(0, 255, (2, 700, 600), dtype="uint8")
    profile = {"driver": "GTiff", "width": 600, "height": 700, "count": 2, "dtype": "uint8", "crs": "EPSG:32632"}
    with rasterio.open(path, "w", transform=Affine(10, 0, 600_000, 0, -10, 5_200_000), **profile) as made:
        made.write(values)
    return path.read_bytes()


@pytest.fixture
def home(server):
    return server.home


@pytest.fixture
def project_id(place):
    return place.home.project_id


@pytest_asyncio.fixture
async def idle_server(database, place, tmp_path):
    """A house that does nothing in the background."""
    async with served(database, place, data_dir=tmp_path, background=False) as serving:
        yield serving


async def test_nothing_is_made_of_what_has_not_come(home, server, project_id):
    upload_id = await begun(home, project_id, file_count=2)
    refusal = (409, "illegal_state")
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == refusal
    url = await address_of(home, upload_id, "a.tif")
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == refusal
    assert (await put(server.http, url, b"xx", Content_Range="bytes 0-1/4")).status_code == 308
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == refusal
    assert (await put(server.http, url, b"xxxx")).status_code == 200
    response = await home.post("uploads.complete", {"upload_id": upload_id})
    assert (response.status_code, "2 files" in problem_of(response)["detail"]) == (409, True)


async def test_an_object_that_is_gone_or_hurt_is_noticed(home, server, project_id, tiff, tmp_path):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    [stored] = objects_below(tmp_path)
    for damage in (lambda path: path.write_bytes(tiff[:-1]), lambda path: path.unlink()):
        damage(tmp_path / "objects" / stored)
        response = await home.post("uploads.complete", {"upload_id": upload_id})
        assert response.status_code == 409
        assert "a.tif" in problem_of(response)["detail"]
    await sent(server, upload_id, {"a.tif": tiff})
    assert (await home.op("uploads.complete", {"upload_id": upload_id}))["status"] == "completed"


async def test_checksums_are_compared(home, server, project_id, tiff):
    upload_id = await begun(home, project_id)
    url = await address_of(home, upload_id, "a.tif")
    told = (await put(server.http, url, tiff)).json()
    wrong = {"object_path": told["object_path"], "checksum_crc32c": "AAAAAA=="}
    response = await home.post("uploads.complete", {"upload_id": upload_id, "files": [wrong]})
    [issue] = problem_of(response)["detail"]
    assert issue["loc"] == ["body", "files", 0, "checksum_crc32c"]
    unknown = {"object_path": told["object_path"] + "x"}
    assert await home.refused("uploads.complete", {"upload_id": upload_id, "files": [unknown]}) == (409, "illegal_state")
    good = {"object_path": told["object_path"], "checksum_crc32c": told["checksum_crc32c"]}
    done = await home.op("uploads.complete", {"upload_id": upload_id, "files": [good]})
    assert done["upload"]["checksum_crc32c"] == told["checksum_crc32c"]
    assert done["assets"][0]["checksum"] == f"sha256:{told['checksum_sha256']}"


VRT = b"""<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"""
BAD_FILES = {
    "text": (b"not a raster at all", "unsupported_format"),
    "empty": (b"", "unsupported_format"),
    "vrt": (VRT, None),
}


@pytest.mark.parametrize("case", BAD_FILES)
async def test_bad_files_leave_the_session_in_review(home, server, project_id, tiff, case, place):
    data, reason = BAD_FILES[case]
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": data})
    response = await home.post("uploads.complete", {"upload_id": upload_id})
    assert response.status_code == 422, response.text
    if reason is not None:
        assert problem_of(response)["reason"] == reason
    upload = (await home.op("uploads.get", {"upload_id": upload_id}))["upload"]
    assert (upload["status"], upload["reserved_bytes"]) == ("reviewing", len(data))
    assert upload["error_message"]
    await sent(server, upload_id, {"a.tif": tiff})
    upload = (await home.op("uploads.get", {"upload_id": upload_id}))["upload"]
    assert (upload["status"], upload["error_message"]) == ("uploading", None)
    assert (await home.op("uploads.complete", {"upload_id": upload_id}))["status"] == "completed"
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)


async def test_a_truncated_file_is_refused(home, server, project_id, tiff):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff[: len(tiff) // 2]})
    response = await home.post("uploads.complete", {"upload_id": upload_id})
    assert (response.status_code, problem_of(response)["reason"]) == (422, "damaged_file")


@pytest.mark.parametrize(
    ("given", "loc"),
    [
        ({"band_names": ["red"]}, ["body", "band_names"]),
        ({"bandNames": ["red", "red"]}, ["body", "band_names"]),
        ({"type": "user_vector"}, ["body", "type"]),
        ({"datetime": "yesterday"}, ["body", "datetime"]),
        ({"user_metadata": {"epsg": "WGS 84"}}, ["body", "user_metadata", "epsg"]),
        ({"user_metadata": {"epsg": True}}, ["body", "user_metadata", "epsg"]),
        ({"name": ""}, ["body", "name"]),
    ],
)
async def test_what_is_said_of_files_has_to_fit(home, server, project_id, tiff, given, loc):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    response = await home.post("uploads.complete", {"upload_id": upload_id, **given})
    assert response.status_code == 422, response.text
    assert problem_of(response)["detail"][0]["loc"] == loc
    collection = {"upload_id": upload_id, "collection_id": new_id()}
    assert await home.refused("uploads.complete", collection) == (404, "not_found")


async def test_names_of_bands_outlive_the_conversion(home, server, project_id, tiff):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    told = await home.op("uploads.complete", {"upload_id": upload_id, "band_names": ["red", "nir"]})
    await until_processed(server, upload_id)
    [asset] = (await home.op("items.list_assets", {"item_id": told["item_id"]}))["assets"]
    assert (asset["is_cog"], asset["band_names"]) == (True, ["red", "nir"])


async def test_completing_happens_once(home, server, project_id, tiff):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    given = {"upload_id": upload_id}
    responses = await asyncio.gather(*(home.post("uploads.complete", given) for _ in range(4)))
    assert sorted(response.status_code for response in responses) == [200, 409, 409, 409]
    [count] = await server.sql("SELECT count(*) AS items FROM item")
    assert count["items"] == 1


async def test_the_same_key_replays(home, server, project_id, tiff):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    first = await home.post("uploads.complete", {"upload_id": upload_id}, Idempotency_Key="once")
    again = await home.post("uploads.complete", {"upload_id": upload_id}, Idempotency_Key="once")
    assert (first.content, again.headers["idempotency-replayed"]) == (again.content, "true")
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == (409, "illegal_state")
    assert await home.refused("uploads.fail", {"upload_id": upload_id, "error_message": "late"}) == (409, "illegal_state")


async def test_more_than_the_quota_leaves_the_session_open(home, server, project_id, tiff, place):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    # The plan shrinks, and the session's reservation is lost to an operator's correction.
    await server.sql("UPDATE upload SET reserved_bytes = 0")
    await server.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1000}', overage = '{}'")
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == (402, "storage_quota_exceeded")
    upload = (await home.op("uploads.get", {"upload_id": upload_id}))["upload"]
    assert upload["status"] not in {"completed", "failed"}
    await server.sql("UPDATE plan SET included = included || '{\"storage_bytes\": 1000000000}'")
    await home.op("uploads.complete", {"upload_id": upload_id})
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)


async def test_a_file_sent_anew_meanwhile_is_noticed(home, server, project_id, tiff, monkeypatch):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    real, loop = ingest.inspect, asyncio.get_running_loop()

    def replaced_meanwhile(*args, **kwargs):
        found = real(*args, **kwargs)
        asyncio.run_coroutine_threadsafe(sent(server, upload_id, {"a.tif": tiff + b" "}), loop).result()
        return found

    monkeypatch.setattr(ingest, "inspect", replaced_meanwhile)
    assert await home.refused("uploads.complete", {"upload_id": upload_id}) == (409, "resource_busy")
    monkeypatch.undo()
    assert (await home.op("uploads.complete", {"upload_id": upload_id}))["assets"][0]["file_size_bytes"] == len(tiff) + 1


async def test_the_target_is_asked_again(home, server, project_id, tiff, place):
    at = {"name": "x", "type": "external_reference", "datetime": "2024-01-01T00:00:00Z"}
    item_id = (await home.op("items.create", {"project_id": project_id, **at}))["id"]
    first = await begun(home, project_id, target_item_id=item_id, asset_key="more")
    second = await begun(home, project_id, target_item_id=item_id, asset_key="more")
    for upload_id in (first, second):
        await sent(server, upload_id, {"a.tif": tiff})
    await home.op("uploads.complete", {"upload_id": first})
    assert await home.refused("uploads.complete", {"upload_id": second}) == (409, "conflict")
    assert await reserved(server.sql, place.home.organization_id) == (len(tiff), len(tiff))
    await until_processed(server, first)
    await home.op("items.delete", {"item_id": item_id})
    assert await home.refused("uploads.complete", {"upload_id": second}) == (404, "not_found")


async def test_work_that_cannot_be_done_ends_cleanly(home, server, project_id, tiff, place, monkeypatch, tmp_path):
    def refused(*_args, **_kwargs):
        raise ingest.IngestRefused("Block 7 of a.tif cannot be decoded.")

    monkeypatch.setattr(ingest, "convert", refused)
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    told = await home.op("uploads.complete", {"upload_id": upload_id})
    upload = await until_processed(server, upload_id)
    assert upload["status"] == "completed"
    assert (upload["error_step"], upload["error_message"]) == ("converting", "Block 7 of a.tif cannot be decoded.")
    item = (await home.op("items.get", {"item_id": told["item_id"]}))["item"]
    assert item["properties"]["geopera:processing"] == {
        "state": "failed", "step": "converting", "message": "Block 7 of a.tif cannot be decoded.",
    }  # fmt: skip
    assert item["assets"][0]["is_cog"] is False
    assert objects_below(tmp_path) == {item["assets"][0]["href"]}
    [job] = await server.sql("SELECT state, error FROM job WHERE kind = %s", PROCESS)
    assert (job["state"], job["error"]) == ("failed", "Block 7 of a.tif cannot be decoded.")
    assert await reserved(server.sql, place.home.organization_id) == (0, 0)


async def test_trouble_that_passes_is_waited_for(home, server, project_id, tiff, monkeypatch):
    real, tries = ingest.convert, []

    def failing_once(*args, **kwargs):
        tries.append(1)
        if len(tries) == 1:
            raise WriteFailed("no room", 28)
        return real(*args, **kwargs)

    monkeypatch.setattr(ingest, "convert", failing_once)
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})
    await home.op("uploads.complete", {"upload_id": upload_id})
    upload = await until_processed(server, upload_id)
    assert (upload["detected_metadata"]["processing"], len(tries)) == ("done", 2)


async def test_an_item_is_kept_while_its_file_is_converted(idle_server, project_id, tiff):
    home = idle_server.home
    upload_id = await begun(home, project_id)
    await sent(idle_server, upload_id, {"a.tif": tiff})
    told = await home.op("uploads.complete", {"upload_id": upload_id})
    assert await home.refused("items.delete", {"item_id": told["item_id"]}) == (409, "resource_busy")


async def test_nothing_of_an_open_upload_is_an_orphan(idle_server, project_id, tiff, tmp_path):
    home, operator = idle_server.home, await idle_server.operator()

    async def orphans() -> set[str]:
        found = await operator.op("usage.admin.reconcile_storage", {"project_id": project_id})
        assert found["missing_objects"] == found["damaged_objects"] == []
        return {each["path"] for each in found["orphan_objects"]}

    upload_id = await begun(home, project_id, file_count=2)
    await sent(idle_server, upload_id, {"a.tif": tiff})
    url = await address_of(home, upload_id, "b.tif")
    assert (await put(idle_server.http, url, b"xx", Content_Range="bytes 0-1/4")).status_code == 308
    assert len(objects_below(tmp_path)) == 2
    assert await orphans() == set()
    await home.op("uploads.fail", {"upload_id": upload_id, "error_message": "x"})
    # The job that removes them is queued, and names the upload.
    assert await orphans() == set()
    await idle_server.sql("UPDATE job SET state = 'done'")
    assert await orphans() == objects_below(tmp_path)


async def test_without_room_to_look_at_files_they_are_kept(home, server, project_id, tiff, monkeypatch):
    upload_id = await begun(home, project_id)
    await sent(server, upload_id, {"a.tif": tiff})

    def full(*_args, **_kwargs):
        raise WriteFailed("no room", 28)

    with monkeypatch.context() as patched:
        patched.setattr(ingest, "inspect", full)
        assert await home.refused("uploads.complete", {"upload_id": upload_id}) == (503, "worker_unavailable")
    assert (await home.op("uploads.complete", {"upload_id": upload_id}))["status"] == "completed"


async def test_nobody_looks_on_at_files_after_the_call_has_gone(monkeypatch, tmp_path):
    looking, ended = threading.Event(), threading.Event()

    def until_stopped(_paths, *, should_stop, **_given):
        # Threads that other work shares would be taken up by a few bad files.
        assert threading.current_thread().name.startswith("inspect")
        looking.set()
        while not should_stop():
            ended.wait(0.01)
        ended.set()

    monkeypatch.setattr(ingest, "inspect", until_stopped)
    call = asyncio.create_task(unpacking.inspected([], given={}, is_categorical=False, scratch=tmp_path))
    assert await asyncio.to_thread(looking.wait, 10)
    call.cancel()
    assert await asyncio.to_thread(ended.wait, 10)
