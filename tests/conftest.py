"""What every test may ask for: a real PostgreSQL, a migrated and seeded database of its own, a served house, shared imagery."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import pytest_asyncio

sys.path.insert(0, str(Path(__file__).parent))

from support.postgres import TestCluster
from support.serving import Place, prepared_template, served

REPOSITORY = Path(__file__).parent.parent


def shared_data_folder() -> Path:
    """Returns the folder of real imagery and STAC items: GEOPERA_TEST_DATA, else `shared/data` beside the checkout."""
    named = os.environ.get("GEOPERA_TEST_DATA")
    folders = [Path(named)] if named else [REPOSITORY.parent / "shared" / "data"]
    for folder in folders:
        if (folder / "imagery").is_dir():
            return folder
    pytest.fail(f"real imagery is missing: set GEOPERA_TEST_DATA to its folder (looked in {folders})", pytrace=False)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    return shared_data_folder()


@pytest.fixture(scope="session")
def clients_venv() -> Path:
    """The environment that holds the published clients, made on first use."""
    folder = REPOSITORY / "tests" / "clients" / "env"
    uv = os.environ.get("UV") or shutil.which("uv")
    assert uv, "uv is needed to install the published clients: run the tests with `make test`"
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    subprocess.run([uv, "sync", "--frozen", "--quiet", "--project", folder], check=True, env=environment)
    return folder / ".venv"


@pytest.fixture(scope="session")
def clients_site(clients_venv) -> Path:
    return next((clients_venv / "lib").glob("python3*/site-packages"))


@pytest.fixture(scope="session")
def cluster():
    with TestCluster() as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def template(cluster):
    """A migrated database with sources, prices, plans, two organizations and an operator; see support.serving.Place."""
    dsn = cluster.create_database()
    place = await prepared_template(dsn)
    return dsn, place


@pytest.fixture
def database(cluster, template):
    dsn = cluster.create_database(template[0])
    yield dsn
    cluster.drop_database(dsn)


@pytest.fixture
def place(template) -> Place:
    """Who lives in the database: ids, keys and passwords."""
    return template[1]


@pytest_asyncio.fixture
async def server(database, place, tmp_path, shared_data):
    """A whole house served over HTTP on loopback, with its background work."""
    async with served(database, place, data_dir=tmp_path, source_roots=[shared_data]) as serving:
        yield serving
