"""What visitors of a share see, how far it leads, and how often they may guess its password."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

import pytest

from geopera_server.domains.sharing import passwords
from geopera_server.kernel import tickets
from geopera_server.values.clock import iso, now
from geopera_server.values.ids import new_id
from support.deliveries import asset, deliver, item
from support.sharing import SHARE_PASSWORD, Visitor, delivered, everything_stored, link_to, opening

WRONG = (403, "invalid_share_password")
UNKNOWN = (404, "not_found")
OVER = (410, "share_expired")
ENOUGH = (429, "too_many_attempts")
GUESS = "wrong and wrong"


@pytest.fixture
def unproven(monkeypatch):
    """Lets no password be remembered, as in a process that has just begun."""
    monkeypatch.setattr(passwords.Proven, "holds", lambda *_: False)


async def shared(household, target_id=None, **more):
    """Shares a fresh item, or the target that is named."""
    return await household.owner.op("share.link.create", link_to(target_id or (await delivered(household))["id"], **more))


async def collected(household, count=3):
    """Delivers items into one collection and returns its id and theirs, newest first."""
    order_id, made = new_id(), []
    for number in range(count):
        given = {"item": item(household.project_id, f"PART_{number}"), "assets": [asset()], "collection_for": order_id}
        made.append(await household.owner.run(deliver, given))
    return made[0]["collection_id"], [each["id"] for each in reversed(made)]


def ticket_of(shown) -> str:
    return shown["tilejson_url"].partition("token=")[2].partition("&")[0]


async def test_the_password_opens_the_link_and_shows_the_item(household, visitor):
    made = await delivered(household)
    link = await shared(household, made["id"])
    opened = await visitor.op("share.link.validate", opening(link))
    assert (opened["target_type"], opened["permission"]) == ("item", "view")
    target = opened["target"]
    assert (target["id"], target["name"], target["gsd"]) == (made["id"], "SCENE_1", 10.0)
    assert target.keys() == {
        "id", "name", "type", "description", "datetime", "geometry", "bbox", "gsd", "cloud_cover", "tilejson_url",
        "thumbnail_url", "visualizations", "expires_at",
    }  # fmt: skip
    assert link["token"] not in target["tilejson_url"]
    ticket = tickets.opened(household.house.links, ticket_of(target), now())
    assert (ticket.kind, ticket.item_id, ticket.key_id) == ("share", made["id"], link["id"])
    assert now() + timedelta(hours=23) < ticket.expires_at <= now() + timedelta(hours=24)


async def test_nothing_of_how_files_are_stored_is_shown(household, visitor):
    link = await shared(household, permission="download")
    shown = await visitor.reply("share.link.validate", opening(link))
    for hidden in (b"projects/p/", b"href", b"project_id", b"organization_id", b"storage", household.project_id.encode()):
        assert hidden not in shown.body


async def test_a_credential_of_any_kind_changes_nothing(household, visitor):
    link = await shared(household)
    seen = await visitor.op("share.link.validate", opening(link))
    for caller in (household.owner, household.stranger):
        again = await caller.op("share.link.validate", opening(link))
        assert again.keys() == seen.keys()
        assert again["target"]["id"] == seen["target"]["id"]


async def test_what_is_no_token_or_ticket_of_ours_opens_nothing(household, visitor):
    link = await shared(household)
    token = link["token"]
    shown = (await visitor.op("share.link.validate", opening(link)))["target"]
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")
    for wrong in ("", token[:-1], token + "A", changed, token.swapcase(), "é" * 43, "x" * 10_000, ticket_of(shown)[:-1]):
        assert await visitor.refused("share.link.validate", opening(link, token=wrong)) == UNKNOWN
        assert await visitor.refused("share.file.open", {"token": wrong, "asset_id": new_id()}) == UNKNOWN
    assert await visitor.refused("share.link.validate", {"token": token}) == WRONG
    assert await visitor.refused("share.link.validate", opening(link, password=SHARE_PASSWORD.upper())) == WRONG


async def test_a_password_is_the_same_however_a_keyboard_composes_it(household, visitor):
    link = await shared(household, password="Stra\u00dfe f\u00fcr alle")
    await visitor.op("share.link.validate", opening(link, password="Stra\u00dfe fu\u0308r alle"))


async def test_tickets_of_another_kind_open_no_share(household, visitor):
    made = await delivered(household)
    link = await shared(household, made["id"], permission="download")
    key = await household.owner.op("items.tile_keys.create", {"name": "map", "item_id": made["id"]})
    read = tickets.issue(
        household.house.links,
        kind="read",
        organization_id=household.place.home.organization_id,
        item_id=made["id"],
        collection_id=None,
        expires_at=now() + timedelta(hours=1),
    )
    for other in (key["key"], read):
        assert await visitor.refused("share.link.validate", {"token": other}) == UNKNOWN
    assert link["id"]


async def test_a_ticket_does_not_live_longer_by_being_used(household, visitor, later):
    link = await shared(household)
    first = (await visitor.op("share.link.validate", opening(link)))["target"]
    later(timedelta(hours=23))
    second = (await visitor.op("share.link.validate", {"token": ticket_of(first)}))["target"]
    ends = [tickets.opened(household.house.links, ticket_of(shown), now()).expires_at for shown in (first, second)]
    assert ends[0] == ends[1]
    later(timedelta(hours=25))
    assert await visitor.refused("share.link.validate", {"token": ticket_of(second)}) == (410, "expired")
    await visitor.op("share.link.validate", opening(link))


async def test_a_ticket_ends_with_its_link(household, visitor, later):
    link = await shared(household, expires_at=iso(now() + timedelta(hours=1)))
    shown = (await visitor.op("share.link.validate", opening(link)))["target"]
    assert shown["expires_at"] <= link["expires_at"]
    later(timedelta(minutes=61))
    assert await visitor.refused("share.link.validate", opening(link)) == OVER
    assert (await visitor.refused("share.link.validate", {"token": ticket_of(shown)}))[0] == 410


class TestGuessing:
    async def test_five_wrong_passwords_are_enough_for_a_quarter_of_an_hour(self, household, visitor, later):
        link = await shared(household)
        for _ in range(5):
            assert await visitor.refused("share.link.validate", opening(link, password=GUESS)) == WRONG
        for password in (GUESS, SHARE_PASSWORD):
            refusal = await visitor.refusal("share.link.validate", opening(link, password=password))
            assert (refusal.status, refusal.code) == ENOUGH
            assert 890 <= refusal.retry_after_s <= 900
        later(timedelta(minutes=14))
        assert await visitor.refused("share.link.validate", opening(link)) == ENOUGH
        later(timedelta(minutes=15, seconds=5))
        await visitor.op("share.link.validate", opening(link))

    async def test_it_is_counted_by_link_and_address(self, household, visitor):
        one, other = await shared(household), await shared(household, (await delivered(household, stac_id="S2"))["id"])
        for _ in range(5):
            await visitor.refused("share.link.validate", opening(one, password=GUESS))
        await visitor.op("share.link.validate", opening(other))
        await Visitor(household.house, "198.51.100.9").op("share.link.validate", opening(one))

    async def test_one_machine_with_many_addresses_is_one_visitor(self, household):
        link = await shared(household)
        for number in range(5):
            guest = Visitor(household.house, f"2001:db8:1:2::{number:x}")
            assert await guest.refused("share.link.validate", opening(link, password=GUESS)) == WRONG
        last = Visitor(household.house, "2001:db8:1:2:ffff::1")
        assert await last.refused("share.link.validate", opening(link)) == ENOUGH
        await Visitor(household.house, "2001:db8:1:3::1").op("share.link.validate", opening(link))

    async def test_guesses_at_once_get_no_more_than_five_looks(self, household, visitor, monkeypatch):
        link, looked = await shared(household), []
        look = passwords.matches

        async def counted(*given):
            looked.append(given)
            return await look(*given)

        monkeypatch.setattr(passwords, "matches", counted)
        guesses = [visitor.refused("share.link.validate", opening(link, password=f"{GUESS} {n}")) for n in range(40)]
        assert sorted(await asyncio.gather(*guesses)) == [WRONG] * 5 + [ENOUGH] * 35
        assert len(looked) == 5

    async def test_guesses_in_several_processes_get_no_more_than_five_looks(self, household, visitor, monkeypatch):
        """Without the line that visitors of one process wait in, the database alone keeps count."""
        from geopera_server.domains.sharing import visiting

        link = await shared(household)
        monkeypatch.setattr(visiting, "_turn", lambda *_: asyncio.Lock())
        guesses = [visitor.refused("share.link.validate", opening(link, password=f"{GUESS} {n}")) for n in range(40)]
        assert sorted(await asyncio.gather(*guesses)) == [WRONG] * 5 + [ENOUGH] * 35

    @pytest.mark.usefixtures("unproven")
    async def test_right_passwords_at_once_are_no_guesses(self, household, visitor):
        link = await shared(household)
        for _ in range(4):
            await visitor.refused("share.link.validate", opening(link, password=GUESS))
        await asyncio.gather(*(visitor.op("share.link.validate", opening(link)) for _ in range(12)))
        assert await visitor.refused("share.link.validate", opening(link, password=GUESS)) == WRONG
        assert await visitor.refused("share.link.validate", opening(link)) == ENOUGH

    async def test_a_password_that_was_right_is_not_hashed_again_and_still_counts_no_more_than_others(
        self, household, visitor, monkeypatch
    ):
        link = await shared(household)
        await visitor.op("share.link.validate", opening(link))

        async def unexpected(*_):
            raise AssertionError("hashed again")

        with monkeypatch.context() as once:
            once.setattr(passwords, "matches", unexpected)
            await visitor.op("share.link.validate", opening(link))
        for _ in range(5):
            await visitor.refused("share.link.validate", opening(link, password=GUESS))
        assert await visitor.refused("share.link.validate", opening(link)) == ENOUGH

    async def test_a_link_that_is_over_is_not_guessed_at(self, household, visitor):
        link = await shared(household)
        await household.owner.op("share.link.revoke", {"link_id": link["id"]})
        for _ in range(7):
            assert await visitor.refused("share.link.validate", opening(link, password=GUESS)) == OVER
        assert await household.sql("SELECT 1 FROM share_attempt") == []

    async def test_an_unknown_token_costs_what_a_wrong_password_does(self, household, visitor, monkeypatch):
        link, looked = await shared(household), []
        look = passwords.matches

        async def counted(*given):
            looked.append(given)
            return await look(*given)

        monkeypatch.setattr(passwords, "matches", counted)
        await visitor.refused("share.link.validate", opening(link, password=GUESS))
        await visitor.refused("share.link.validate", opening(link, token="A" * 43))
        assert [stored is None for stored, _ in looked] == [False, True]

    async def test_a_refused_visit_changes_nothing_but_the_count_of_wrong_passwords(self, household, visitor):
        link = await shared(household)
        before = await everything_stored(household)
        await visitor.refused("share.link.validate", opening(link, password=GUESS))
        await visitor.refused("share.link.validate", opening(link, token="A" * 43))
        await visitor.refused("share.file.open", {"token": "A" * 43, "asset_id": new_id()})
        changed = set((await everything_stored(household)).splitlines()) ^ set(before.splitlines())
        assert {line.partition(":")[0] for line in changed} <= {"share_attempt", "rate_window", "audit_event"}


async def test_accesses_are_counted_and_the_last_fifty_kept_without_addresses(household, visitor):
    link = await shared(household)
    await Visitor(household.house, "2001:db8:aaaa:bbbb::5").op("share.link.validate", opening(link))
    assert await accesses(household, link) == ["2001:db8:aaaa::/48"]
    await asyncio.gather(*(visitor.op("share.link.validate", opening(link)) for _ in range(55)))
    assert await accesses(household, link) == ["203.0.113.0/24"] * 50
    got = await household.owner.op("share.link.get", {"link_id": link["id"]})
    assert got["share_link"]["access_count"] == 56
    assert got["share_link"]["last_accessed_at"] >= got["accesses"][-1]["at"]
    stored = await everything_stored(household)
    assert visitor.ip not in "\n".join(line for line in stored.splitlines() if not line.startswith(("audit_", "rate_")))


async def accesses(household, link) -> list[str]:
    got = await household.owner.op("share.link.get", {"link_id": link["id"]})
    assert {access["kind"] for access in got["accesses"]} == {"validate"}
    return [access["ip_prefix"] for access in got["accesses"]]


async def test_a_collection_shows_its_items_and_no_others(household, visitor):
    collection_id, inside = await collected(household)
    outside = await delivered(household, stac_id="OUTSIDE")
    link = await shared(household, collection_id, target_type="collection")
    target = (await visitor.op("share.link.validate", opening(link)))["target"]
    assert target.keys() == {"id", "name", "description", "items", "item_count"}
    assert (target["id"], target["item_count"]) == (collection_id, 3)
    assert [each["id"] for each in target["items"]] == inside
    await household.sql("UPDATE item SET collection_id = NULL WHERE id = %s", inside[0])
    await household.sql("UPDATE item SET deleted_at = now() WHERE id = %s", inside[1])
    target = (await visitor.op("share.link.validate", opening(link)))["target"]
    assert [each["id"] for each in target["items"]] == [inside[2]]
    assert outside["id"] not in inside


async def test_an_item_without_files_is_no_longer_shown(household, visitor):
    link = await shared(household)
    await household.sql("UPDATE item SET lifecycle_state = 'expired'")
    assert await visitor.refused("share.link.validate", opening(link)) == (410, "retention_expired")


class TestFiles:
    async def test_only_a_link_for_downloads_names_and_opens_files(self, household, visitor):
        made = await delivered(household)
        view, full = [await shared(household, made["id"], permission=way) for way in ("view", "download")]
        seen = (await visitor.op("share.link.validate", opening(view)))["target"]
        assert "assets" not in seen
        [file] = (await visitor.op("share.link.validate", opening(full)))["target"]["assets"]
        assert (file["file_name"], file["file_size_bytes"], file["media_type"][:10]) == ("data.tif", 1_000, "image/tiff")
        assert await visitor.refused("share.file.open", {"token": ticket_of(seen), "asset_id": file["id"]}) == (
            403,
            "role_required",
        )

    async def test_a_file_counts_once_for_each_visitor_and_quarter_of_an_hour(self, household, visitor, later):
        link = await shared(household, permission="download")
        shown = (await visitor.op("share.link.validate", opening(link)))["target"]
        wanted = {"token": ticket_of(shown), "asset_id": shown["assets"][0]["id"]}
        opened = await asyncio.gather(*(visitor.op("share.file.open", wanted) for _ in range(5)))
        assert {each["path"] for each in opened} == {"projects/p/data.tif"}
        assert await egress(household, link) == (1_000, 1_000)
        await Visitor(household.house, "198.51.100.4").op("share.file.open", wanted)
        assert await egress(household, link) == (2_000, 2_000)
        later(timedelta(minutes=16))
        await visitor.op("share.file.open", wanted)
        assert await egress(household, link) == (3_000, 3_000)
        got = await household.owner.op("share.link.get", {"link_id": link["id"]})
        assert [access["kind"] for access in got["accesses"]] == ["download"] * 3 + ["validate"]
        assert got["share_link"]["access_count"] == 1

    async def test_a_sharer_without_downloads_left_is_told_of_without_figures(self, household, visitor):
        made = await delivered(household, asset(file_size_bytes=5_000_000_001))
        link = await shared(household, made["id"], permission="download")
        shown = (await visitor.op("share.link.validate", opening(link)))["target"]
        refusal = await visitor.refusal("share.file.open", {"token": ticket_of(shown), "asset_id": shown["assets"][0]["id"]})
        assert (refusal.status, refusal.code) == (429, "egress_limited")
        assert refusal.retry_after_s > 0
        assert "000" not in refusal.detail
        assert await egress(household, link) == (0, 0)

    async def test_no_file_beside_those_of_the_target_is_opened(self, household, visitor):
        made = await delivered(household, asset(), asset("more"))
        other = await delivered(household, stac_id="OTHER")
        collection_id, inside = await collected(household, 1)
        link = await shared(household, made["id"], permission="download")
        whole = await shared(household, collection_id, target_type="collection", permission="download")
        ticket = ticket_of((await visitor.op("share.link.validate", opening(link)))["target"])
        ticket_for_all = ticket_of((await visitor.op("share.link.validate", opening(whole)))["target"]["items"][0])
        [others] = await household.sql("SELECT id FROM asset WHERE item_id = %s", other["id"])
        [collections] = await household.sql("SELECT id FROM asset WHERE item_id = %s", inside[0])
        own, gone = await household.sql("SELECT id FROM asset WHERE item_id = %s ORDER BY key", made["id"])
        await household.sql("UPDATE asset SET deleted_at = now() WHERE id = %s", gone["id"])
        for asset_id in (others["id"], collections["id"], gone["id"], new_id(), "no id", "../../etc/passwd"):
            assert await visitor.refused("share.file.open", {"token": ticket, "asset_id": asset_id}) == UNKNOWN
        for asset_id in (others["id"], own["id"]):
            assert await visitor.refused("share.file.open", {"token": ticket_for_all, "asset_id": asset_id}) == UNKNOWN
        await visitor.op("share.file.open", {"token": ticket, "asset_id": own["id"]})
        await visitor.op("share.file.open", {"token": ticket_for_all, "asset_id": collections["id"]})
        await household.sql("UPDATE item SET collection_id = NULL WHERE id = %s", inside[0])
        refused = await visitor.refused("share.file.open", {"token": ticket_for_all, "asset_id": collections["id"]})
        assert refused == UNKNOWN

    async def test_a_file_that_lies_elsewhere_is_fetched_there(self, household, visitor):
        url = "https://data.example.com/scene.tif"
        made = await delivered(household, asset(href=url, external=True))
        link = await shared(household, made["id"], permission="download")
        shown = (await visitor.op("share.link.validate", opening(link)))["target"]
        assert shown["assets"][0]["url"] == url
        wanted = {"token": ticket_of(shown), "asset_id": shown["assets"][0]["id"]}
        assert await visitor.refused("share.file.open", wanted) == UNKNOWN


async def test_no_secret_is_stored_logged_or_audited_whatever_is_done_with_a_link(household, visitor, caplog):
    caplog.set_level(logging.DEBUG)
    link = await shared(household, permission="download")
    shown = (await visitor.op("share.link.validate", opening(link)))["target"]
    file = {"token": ticket_of(shown), "asset_id": shown["assets"][0]["id"]}
    await visitor.op("share.file.open", file)
    await visitor.refused("share.link.validate", opening(link, password=GUESS))
    await visitor.refused("share.link.validate", opening(link, token="A" * 43))
    await household.owner.refused("share.link.create", link_to(new_id()))
    await household.owner.refused("share.link.create", link_to(new_id(), password="short"))
    key = await household.owner.op("items.tile_keys.create", {"name": "map", "item_id": shown["id"]}, key="once")
    await household.owner.op("share.link.revoke", {"link_id": link["id"]})
    await household.house.kernel.reads_audit.flush()
    stored = await everything_stored(household)
    assert stored.count("share.link.validate") >= 3
    for secret in (link["token"], SHARE_PASSWORD, GUESS, file["token"], key["key"]):
        assert secret not in stored
        assert secret not in caplog.text


async def egress(household, link) -> tuple[int, int]:
    """Returns what a link counts, and its organization."""
    counted = (await household.owner.op("share.link.get", {"link_id": link["id"]}))["egress_bytes"]
    [used] = await household.sql("SELECT coalesce(sum(amount), 0)::int AS n FROM usage_day WHERE kind = 'egress_bytes'")
    return counted, used["n"]
