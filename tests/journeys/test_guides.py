"""The documents' walks as a reader does them: every block is run against a demo of its own, and prints what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.guides import blocks_of, demo_kept_running, fault, section

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    with demo_kept_running(tmp_path_factory.mktemp("reader")) as running:
        yield running


def document(name: str) -> str:
    return (REPOSITORY / name).read_text()


@pytest.mark.parametrize(
    ("text", "least"),
    [
        (section(document("README.md"), "The quickstart") + section(document("README.md"), "Your own imagery"), 2),
        (document("docs/library.md"), 10),
        (document("docs/billing.md"), 6),
    ],
    ids=["readme", "library", "billing"],
)
def test_a_reader_gets_what_the_document_says(deployment, text, least):
    blocks = blocks_of(text)
    assert len(blocks) >= least
    printed = deployment.run(blocks)
    faults = [fault(block, came) for block, came in zip(blocks, printed, strict=True)]
    assert not any(faults), "\n\n".join(each for each in faults if each)


def test_what_differs_is_noticed():
    [block] = blocks_of('```sh\necho\n```\n\n```text\n{…"status":404,…\nactive\n```\n')
    missing = '{"type":"urn:geopera:problem:not_found","status":404,"x":1}\n'
    assert fault(block, f"before\n{missing}active\n") is None
    assert "active" in str(fault(block, missing))
    assert "active" in str(fault(block, f"active\n{missing}"))
    assert "unauthenticated" in str(fault(block, f'{missing}{{"type":"urn:geopera:problem:unauthenticated"}}\nactive\n'))
