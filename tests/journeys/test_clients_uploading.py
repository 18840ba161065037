"""The published Python SDK and command line send a file, and find it as an item with a COG."""

from __future__ import annotations

import pytest

from support.clients import Clients
from support.uploads import put, until_processed


@pytest.fixture
def scene(shared_data):
    return shared_data / "imagery" / "umbra_sar_mount_yasur.tif"


async def test_uploading_in_python(clients_venv, server, place, scene, tmp_path):
    settings = {
        "base_url": server.base_url,
        "api_key": place.home.api_key,
        "project_id": place.home.project_id,
        "file": str(scene),
    }
    told = await Clients(clients_venv, tmp_path).script("sdk_upload.py", settings)
    assert {step: each["status"] for step, each in told.items()} == dict.fromkeys(told, 200)
    assert {step: each.get("model") for step, each in told.items()} == {
        "initiate": "UploadOutput",
        "signed_url": "SignedUrlOutput",
        "put": None,
        "progress": "UploadOutput",
        "complete": "dict",
        "item": "ItemGetOutput",
    }
    content = {step: each["content"] for step, each in told.items()}
    assert content["initiate"]["reserved_bytes"] == scene.stat().st_size
    assert content["complete"]["status"] == "completed"
    [asset] = content["item"]["item"]["assets"]
    assert (asset["is_cog"], asset["epsg"]) == (True, 32759)
    assert content["item"]["item"]["name"] == "From Python"


async def test_uploading_at_the_command_line(clients_venv, server, place, scene, tmp_path):
    clients = Clients(clients_venv, tmp_path)
    variables = {"GEOPERA_API_URL": server.base_url, "GEOPERA_API_TOKEN": place.home.api_key}

    async def geopera(*words):
        finished = await clients.run("geopera", *words, **variables)
        assert finished.code == 0, finished.err
        return finished.json()

    size = str(scene.stat().st_size)
    session = await geopera("uploads", "initiate", "--project-id", place.home.project_id, "--total-bytes", size)
    asked = ("--upload-id", session["id"], "--file-name", scene.name, "--content-type", "image/tiff")
    address = await geopera("uploads", "signed-url", *asked)
    assert (await put(server.http, address["upload_url"], scene.read_bytes())).status_code == 200
    told = await geopera("uploads", "complete", "--json", f'{{"uploadId": "{session["id"]}", "name": "From a shell"}}')
    await until_processed(server, session["id"])
    item = (await geopera("items", "get", "--item-id", told["item_id"]))["item"]
    assert (item["name"], item["assets"][0]["is_cog"]) == ("From a shell", True)
