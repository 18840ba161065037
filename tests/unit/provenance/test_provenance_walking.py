"""The graph as it is walked, and the records as they are told."""

from __future__ import annotations

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from geopera_server.domains.provenance.live import live_states
from geopera_server.kernel.context import Context
from geopera_server.kernel.lineage import NODE_KINDS
from geopera_server.kernel.operation import operation
from geopera_server.values.ids import new_id


class Statements(BaseModel):
    """Edges to record: an artifact with what it was made from."""

    edges: list[tuple[tuple[str, str], list[tuple[str, str]]]]


class Recorded(TypedDict):
    """How many statements there were."""

    recorded: int


@operation("test.state", effect="compute", scope="items:write", raw=True)
async def state(ctx: Context, given: Statements) -> Recorded:
    """Records edges."""
    for entity, parents in given.edges:
        ctx.lineage.edge(entity, state={"id": entity[1]}, parents=parents)
    return Recorded(recorded=len(given.edges))


async def recorded(household, *edges, by=None):
    await (by or household.owner).run(state, {"edges": [(child, list(parents)) for child, parents in edges]})


def item(name: str) -> tuple[str, str]:
    return ("item", name)


def asked(node, **more):
    return {"entity_type": node[0], "entity_id": node[1], **more}


def nodes_of(reply) -> dict[tuple[str, str], int]:
    found = {(node["entity_type"], node["entity_id"]): node["depth"] for node in reply["nodes"]}
    assert len(found) == len(reply["nodes"]), "a node is listed twice"
    return found


async def test_up_and_down_and_both(household):
    await recorded(
        household,
        (item("B"), [("order", "O")]),
        (("order", "O"), [("capture", "h/1"), ("aoi", "a")]),
        (item("C"), [item("B")]),
    )
    up = await household.owner.op("provenance.get", asked(item("B")))
    assert up["root"] == {"entity_type": "item", "entity_id": "B"}
    assert nodes_of(up) == {("order", "O"): 1, ("capture", "h/1"): 2, ("aoi", "a"): 2}
    edge = next(edge for edge in up["edges"] if edge["dst_type"] == "order")
    assert (edge["src_type"], edge["src_id"], edge["dst_id"], edge["depth"]) == ("item", "B", "O", 1)
    assert (edge["relation"], edge["operation"]) == ("derived-from", "test.state")
    assert {"invocation_id", "recorded_at"} <= edge.keys()
    down = await household.owner.op("provenance.get", asked(("capture", "h/1"), direction="down"))
    assert nodes_of(down) == {("order", "O"): 1, item("B"): 2, item("C"): 3}
    both = await household.owner.op("provenance.get", asked(item("B"), direction="both"))
    assert nodes_of(both) == nodes_of(up) | {item("C"): 1}
    assert await household.owner.op("provenance.get", asked(("aoi", "a"))) == {
        "root": {"entity_type": "aoi", "entity_id": "a"},
        "direction": "up",
        "nodes": [],
        "edges": [],
    }


async def test_shared_origins_are_listed_once_and_nearest(household):
    await recorded(
        household,
        (item("A"), [item("B"), item("C"), item("D")]),
        (item("B"), [item("D")]),
        (item("C"), [item("B")]),
        (item("B"), [item("D")]),
    )
    up = await household.owner.op("provenance.get", asked(item("A")))
    assert nodes_of(up) == {item("B"): 1, item("C"): 1, item("D"): 1}
    pairs = [(edge["src_id"], edge["dst_id"]) for edge in up["edges"]]
    assert sorted(pairs) == [("A", "B"), ("A", "C"), ("A", "D"), ("B", "D"), ("C", "B")]
    assert [edge["depth"] for edge in up["edges"]] == sorted(edge["depth"] for edge in up["edges"])


async def test_depth_is_bounded(household):
    await recorded(household, *((item(f"N{n}"), [item(f"N{n + 1}")]) for n in range(60)))
    near = await household.owner.op("provenance.get", asked(item("N0"), max_depth=3))
    assert nodes_of(near) == {item("N1"): 1, item("N2"): 2, item("N3"): 3}
    assert len(near["edges"]) == 3
    assert len((await household.owner.op("provenance.get", asked(item("N0"), max_depth=50)))["nodes"]) == 50
    for depth in (0, 51):
        assert (await household.owner.refused("provenance.get", asked(item("N0"), max_depth=depth)))[0] == 422


async def test_a_circle_ends(household):
    await recorded(household, (item("A"), [item("B")]), (item("B"), [item("A")]))
    reply = await household.owner.op("provenance.get", asked(item("A"), direction="both", max_depth=50))
    assert nodes_of(reply) == {item("B"): 1}


async def test_many_nodes_are_cut_to_the_nearest(household):
    await recorded(household, (("order", "O"), [("capture", f"h/{n}") for n in range(5_200)]))
    await recorded(household, *((item(f"I{n}"), [("order", "O")]) for n in range(3)))
    up = await household.owner.op("provenance.get", asked(item("I0")))
    assert len(up["nodes"]) == 5_000
    assert nodes_of(up)["order", "O"] == 1


async def test_same_capture_tells_each_organization_its_own(household):
    await recorded(household, (("order", "ours"), [("capture", "h/1")]))
    await recorded(household, (("order", "theirs"), [("capture", "h/1")]), by=household.stranger)
    down = await household.owner.op("provenance.get", asked(("capture", "h/1"), direction="down"))
    assert nodes_of(down) == {("order", "ours"): 1}
    assert await household.owner.refused("provenance.get", asked(("order", "theirs"))) == (404, "not_found")
    assert nodes_of(await household.operator.op("provenance.get", asked(("order", "theirs")))) == {("capture", "h/1"): 1}


@pytest.mark.parametrize("operation_id", ["provenance.get", "provenance.history", "provenance.verify"])
async def test_unknown_roots_and_kinds(household, operation_id):
    for node in ((item(new_id())), item("x"), ("capture", "h/none"), ("report", "r")):
        assert await household.owner.refused(operation_id, asked(node)) == (404, "not_found")
    assert await household.owner.refused(operation_id, asked(("invoice", "x"))) == (422, "unknown_field_value")


async def test_a_live_artifact_without_lineage_is_known(household):
    reply = await household.owner.op("provenance.get", asked(("project", household.project_id)))
    assert (reply["nodes"], reply["edges"]) == ([], [])


async def test_history_is_told_oldest_first_and_sealed_later(household):
    project = await household.owner.op("projects.create", {"name": "Told"})
    await household.owner.op("projects.update", {"project_id": project["id"], "description": "more"})
    node = asked(("project", project["id"]))
    told = await household.owner.op("provenance.history", node)
    first, second = told["records"]
    assert (first["kind"], first["operation"], first["digest_before"]) == ("edge", "projects.create", None)
    assert (second["kind"], second["operation"]) == ("event", "projects.update")
    assert second["digest_before"] == first["digest_after"] != second["digest_after"]
    assert (first["principal_type"], first["principal_id"]) == ("user", household.place.home.user_id)
    assert (first["seq"], first["hash"]) == (None, None)
    await household.seal()
    sealed = (await household.owner.op("provenance.history", node))["records"]
    assert [record["seq"] for record in sealed] == [1, 2]
    assert all(len(record["hash"]) == 64 for record in sealed)


def test_live_readers_are_of_kinds_that_lineage_knows():
    assert {"project", "order", "item", "asset", "collection"} <= live_states().keys() <= NODE_KINDS
