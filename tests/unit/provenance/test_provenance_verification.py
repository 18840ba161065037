"""Whoever changes what was recorded is found out, even with the whole database at hand; only the signing key is out of reach."""

from __future__ import annotations

import pytest

from geopera_server.domains.provenance import verification
from geopera_server.kernel.chain import link_hash, record_digest
from support.deliveries import asset, deliver, item

VERIFY = "provenance.verify"


@pytest.fixture
async def chain(household):
    """Six items, each with an asset, sealed in three blocks: twelve records."""
    ids = []
    for block in range(3):
        for number in range(2):
            made = await household.owner.run(
                deliver,
                {
                    "item": item(household.project_id, f"S{block}{number}"),
                    "assets": [asset()],
                    "parents": [("capture", f"h/{block}{number}"), ("aoi", "a")],
                },
            )
            ids.append(made["id"])
        assert await household.seal() == 4
    return ids


async def verdict(household, **given):
    return await household.owner.op(VERIFY, given)


async def reasons(household, **given) -> set[tuple[int | None, str]]:
    found = await verdict(household, **given)
    assert found["ok"] == (not found["breaks"] and found["digest_matches"] is not False)
    return {(each["seq"], each["reason"]) for each in found["breaks"]}


def about(item_id):
    return {"entity_type": "item", "entity_id": item_id}


async def test_untouched_chain_is_whole(household, chain):
    found = await verdict(household)
    assert (found["ok"], found["checked"], found["breaks"], found["digest_matches"]) == (True, 12, [], None)
    assert (found["head"]["seq"], len(found["head"]["hash"])) == (12, 64)
    assert found["head"]["signed_at"].endswith("Z")
    one = await verdict(household, **about(chain[2]))
    assert (one["ok"], one["checked"], one["digest_matches"]) == (True, 1, True)


async def test_nothing_recorded_yet_is_whole(household):
    assert await verdict(household) == {
        "ok": True,
        "checked": 0,
        "head": {"seq": 0, "hash": None, "signed_at": None},
        "breaks": [],
        "digest_matches": None,
    }


async def test_records_that_wait_for_the_sealer_are_checked_too(household, chain):
    made = await household.owner.run(deliver, {"item": item(household.project_id, "late"), "assets": [asset()]})
    assert await verdict(household, **about(made["id"])) | {"head": None} == {
        "ok": True,
        "checked": 1,
        "head": None,
        "breaks": [],
        "digest_matches": True,
    }
    assert (await verdict(household))["checked"] == 14
    await household.tamper("UPDATE lineage_record SET principal_id = 'x' WHERE entity_id = %s", made["id"])
    assert await reasons(household) == {(None, "record altered")}
    assert await reasons(household, **about(made["id"])) == {(None, "record altered")}


@pytest.mark.parametrize(
    "change",
    [
        "organization_id = organization_id, operation_id = 'items.create'",
        "invocation_id = gen_random_uuid()",
        "principal_type = 'service'",
        "principal_id = NULL",
        "kind = 'event'",
        "entity_id = entity_id || '0'",
        "parents = '[]'",
        "digest_before = repeat('0', 64)",
        "digest_after = repeat('0', 64)",
        "recorded_at = recorded_at - interval '1 day'",
    ],
)
async def test_an_altered_record_is_found(household, chain, change):
    await household.tamper("UPDATE lineage_record SET " + change + " WHERE seq = 5")
    found = await reasons(household)
    assert (5, "record altered") in found


async def test_an_altered_record_with_its_own_digest_made_fit_is_found(household, chain):
    [row] = await household.sql("SELECT * FROM lineage_record WHERE seq = 5")
    forged = record_digest({**row, "digest_after": "0" * 64})
    await household.tamper("UPDATE lineage_record SET digest_after = repeat('0', 64), record_digest = %s WHERE seq = 5", forged)
    assert await reasons(household) == {(5, "hash does not match the record")}


async def test_a_chain_recomputed_from_a_forged_record_is_found(household, chain):
    """The forger links everything again and moves the head; the signatures stay behind."""
    rows = await household.sql("SELECT * FROM lineage_record ORDER BY seq")
    prev = rows[3]["hash"]
    for row in rows[4:]:
        forged = {**row, "digest_after": "0" * 64} if row["seq"] == 5 else row
        digest = record_digest(forged)
        hash_ = link_hash(prev, row["seq"], digest)
        await household.tamper(
            "UPDATE lineage_record SET digest_after = %s, record_digest = %s, prev_hash = %s, hash = %s WHERE seq = %s",
            forged["digest_after"], digest, prev, hash_, row["seq"],
        )  # fmt: skip
        prev = hash_
    await household.tamper("UPDATE lineage_head SET hash = %s", prev)
    assert await reasons(household) == {
        (8, "the seal was made over another record"),
        (12, "the seal was made over another record"),
    }
    await household.tamper("UPDATE lineage_seal s SET head_hash = r.hash FROM lineage_record r WHERE r.seq = s.to_seq")
    assert await reasons(household) == {
        (8, "the seal's signature is not this deployment's"),
        (12, "the seal's signature is not this deployment's"),
    }


async def remove(household, condition: str) -> None:
    await household.tamper(
        "WITH gone AS (SELECT id FROM lineage_record WHERE " + condition + "),"
        " edges AS (DELETE FROM lineage_edge WHERE record_id IN (SELECT id FROM gone))"
        " DELETE FROM lineage_record WHERE id IN (SELECT id FROM gone)"
    )


async def test_a_removed_record_is_found(household, chain):
    await remove(household, "seq = 5")
    assert await reasons(household) == {(5, "record missing")}
    await remove(household, "seq IN (1, 8)")
    found = await reasons(household)
    assert {(1, "record missing"), (5, "record missing"), (8, "record missing")} <= found


async def test_a_removed_tail_is_found(household, chain):
    await remove(household, "seq >= 11")
    assert (11, "record missing") in await reasons(household)
    [last] = await household.sql("SELECT * FROM lineage_record WHERE seq = 10")
    await household.tamper("UPDATE lineage_head SET seq = 10, hash = %s", last["hash"])
    assert await reasons(household) == {
        (11, "a seal covers records beyond the end of the chain"),
        (12, "the seal was made over another record"),
    }
    await remove(household, "seq >= 9")
    [last] = await household.sql("SELECT * FROM lineage_record WHERE seq = 8")
    await household.tamper("UPDATE lineage_head SET seq = 8, hash = %s", last["hash"])
    assert await reasons(household) == {(9, "a seal covers records beyond the end of the chain")}


async def test_a_head_that_lies_is_found(household, chain):
    await household.tamper("UPDATE lineage_head SET hash = repeat('0', 64)")
    assert await reasons(household) == {(12, "the end of the chain is noted with another hash")}
    await household.tamper("DELETE FROM lineage_head")
    assert {reason for _, reason in await reasons(household)} == {
        "a seal covers records beyond the end of the chain",
        "a record lies beyond the end of the chain",
    }


async def test_a_removed_or_forged_seal_is_found(household, chain):
    await household.tamper("UPDATE lineage_seal SET signature = encode('not a signature', 'base64') WHERE to_seq = 4")
    assert await reasons(household) == {(4, "the seal's signature is not this deployment's")}
    await household.tamper("DELETE FROM lineage_seal WHERE to_seq = 8")
    assert (5, "no seal covers the record") in await reasons(household)
    await household.tamper("DELETE FROM lineage_seal")
    assert (1, "no seal covers the record") in await reasons(household)


async def test_a_graph_that_tells_another_story_is_found(household, chain):
    await household.tamper("UPDATE lineage_edge SET dst_id = 'h/another' WHERE dst_id = 'h/10' AND dst_type = 'capture'")
    assert await reasons(household) == {(5, "the graph shows other origins than the record")}
    assert await reasons(household, **about(chain[2])) == {(5, "the graph shows other origins than the record")}
    await household.tamper("DELETE FROM lineage_edge WHERE dst_type = 'aoi'")
    assert len(await reasons(household)) == 6


async def test_an_edge_that_no_record_states_is_found(household, chain):
    """It is hung on a record about another artifact, in another block."""
    await household.tamper(
        "INSERT INTO lineage_edge SELECT id, organization_id, 'item', %s, 'capture', 'h/x' FROM lineage_record WHERE seq = 3",
        chain[5],
    )
    assert await reasons(household) == {(3, "the graph shows other origins than the record")}
    assert await reasons(household, **about(chain[5])) == {(3, "the graph shows other origins than the record")}
    assert await reasons(household, **about(chain[4])) == set()


async def test_a_changed_artifact_is_found(household, chain):
    await household.sql("UPDATE item SET gsd = 0.5 WHERE id = %s", chain[0])
    found = await verdict(household, **about(chain[0]))
    assert (found["ok"], found["digest_matches"], found["breaks"]) == (False, False, [])
    await household.sql("UPDATE asset SET checksum = 'sha256:' || repeat('1', 64) WHERE item_id = %s", chain[1])
    assert (await verdict(household, **about(chain[1])))["ok"] is False
    [row] = await household.sql("SELECT id FROM asset WHERE item_id = %s", chain[1])
    assert (await verdict(household, entity_type="asset", entity_id=row["id"]))["digest_matches"] is False
    assert (await verdict(household, **about(chain[2])))["ok"] is True


async def test_an_artifact_that_vanished_is_found(household, chain):
    await household.tamper("DELETE FROM item WHERE id = %s", chain[0])
    found = await verdict(household, **about(chain[0]))
    assert (found["ok"], found["digest_matches"]) == (False, False)


async def test_an_artifact_without_its_records_is_found(household, chain):
    await remove(household, "seq = 5")
    assert (None, "no record says how this came about") in await reasons(household, **about(chain[2]))


async def test_a_hole_in_the_story_of_an_artifact_is_found(household):
    project = await household.owner.op("projects.create", {"name": "First"})
    node = {"entity_type": "project", "entity_id": project["id"]}
    for name in ("Second", "Third"):
        await household.owner.op("projects.update", {"project_id": project["id"], "name": name})
        await household.seal()
    assert (await verdict(household, **node))["ok"] is True
    await remove(household, "seq = 2")
    assert (3, "the content before this change is not what was recorded before it") in await reasons(household, **node)
    await remove(household, "operation_id = 'projects.create'")
    assert (None, "no record says how this came about") in await reasons(household, **node)


async def test_the_block_of_an_artifact_is_verified_with_it(household, chain):
    """Its own record is untouched; the one it is chained to is not."""
    await household.tamper("UPDATE lineage_record SET principal_id = 'x' WHERE seq = 6")
    assert await reasons(household, **about(chain[3])) == {(6, "record altered")}
    assert await reasons(household, **about(chain[5])) == set()


async def test_a_stretch_is_verified_alone(household, chain, monkeypatch):
    monkeypatch.setattr(verification, "BATCH", 2)
    assert (await verdict(household))["checked"] == 12
    await household.tamper("UPDATE lineage_record SET principal_id = 'x' WHERE seq = 6")
    assert await reasons(household, from_seq=7) == set()
    assert await reasons(household, to_seq=5) == set()
    assert await reasons(household, from_seq=6, to_seq=6) == {(6, "record altered")}
    assert (await verdict(household, from_seq=3, to_seq=9))["checked"] == 7
    assert (await verdict(household, from_seq=20))["checked"] == 0
    await remove(household, "seq IN (2, 3)")
    assert {(2, "record missing")} <= await reasons(household, to_seq=4)


async def test_choices_that_contradict_each_other(household, chain):
    for given in (
        {"entity_type": "item"},
        {"entity_id": chain[0]},
        {**about(chain[0]), "from_seq": 1},
        {"from_seq": 5, "to_seq": 4},
        {"from_seq": 0},
    ):
        status, _ = await household.owner.refused(VERIFY, given)
        assert status == 422


async def test_each_organization_has_its_own_chain(household, chain):
    await household.tamper("UPDATE lineage_record SET principal_id = 'x' WHERE seq = 5")
    assert (await household.stranger.op(VERIFY, {}))["ok"] is True
    assert await household.stranger.refused(VERIFY, about(chain[0])) == (404, "not_found")
