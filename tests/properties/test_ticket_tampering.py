"""A ticket says what it was issued for, and nothing else that can be made of one is a ticket."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given as given_any
from hypothesis import settings
from hypothesis import strategies as st

from geopera_server.kernel import tickets
from geopera_server.kernel.errors import Gone, NotFound
from geopera_server.transports.http.links import SignedLinks

LINKS = SignedLinks("http://house.test", b"k" * 32)
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def given(*strategies):
    """Tries examples however long one takes, since the machine may be busy with others."""
    return lambda test: settings(deadline=None)(given_any(*strategies)(test))


ids = st.uuids().map(str)
profiles = st.none() | st.text(min_size=1, max_size=40, alphabet=st.characters(exclude_categories=["Cs"]))


@st.composite
def statements(draw):
    """What a ticket may be issued for."""
    kind = draw(st.sampled_from(["read", "share", "key"]))
    item_id, collection_id = draw(st.tuples(st.none() | ids, st.none() | ids).filter(any))
    return {
        "kind": kind,
        "organization_id": draw(ids),
        "item_id": item_id,
        "collection_id": collection_id,
        "expires_at": AT + timedelta(seconds=draw(st.integers(1, 10**8))),
        "key_id": None if kind == "read" else draw(ids),
        "profile": draw(profiles),
    }


@given(statements())
def test_a_ticket_says_what_it_was_issued_for_and_fits_a_path_segment(said):
    text = tickets.issue(LINKS, **said)
    assert tickets.opened(LINKS, text, AT) == tickets.Ticket(**said)
    assert set(text) <= set(ALPHABET) | {"."}
    assert said["profile"] is not None or len(text) < 240


@given(statements(), st.data())
def test_no_change_of_a_ticket_is_a_ticket(said, data):
    text = tickets.issue(LINKS, **said)
    place = data.draw(st.integers(0, len(text) - 1))
    letters = st.sampled_from(ALPHABET + ".=/+ \n%é")
    changed = data.draw(
        st.one_of(
            letters.map(lambda letter: text[:place] + letter + text[place + 1 :]),
            letters.map(lambda letter: text[:place] + letter + text[place:]),
            st.just(text[:place] + text[place + 1 :]),
            st.just(text[:place]),
            st.just(text + text),
            letters.map(lambda letter: text + letter),
        ).filter(lambda other: other != text)
    )
    with pytest.raises(NotFound):
        tickets.opened(LINKS, changed, AT)


@given(statements())
def test_other_spellings_of_the_same_bytes_are_no_tickets(said):
    """The last letter of Base64 may have bits that nobody reads."""
    sealed, mac = tickets.issue(LINKS, **said).split(".")
    for letter in set(ALPHABET) - {sealed[-1]}:
        with pytest.raises(NotFound):
            tickets.opened(LINKS, f"{sealed[:-1]}{letter}.{mac}", AT)


@given(statements(), statements())
def test_parts_of_two_tickets_make_no_third(one, other):
    left, right = (tickets.issue(LINKS, **said).split(".") for said in (one, other))
    if left[0] != right[0]:
        with pytest.raises(NotFound):
            tickets.opened(LINKS, f"{left[0]}.{right[1]}", AT)


@given(statements())
def test_a_ticket_of_another_deployment_is_none_of_ours(said):
    with pytest.raises(NotFound):
        tickets.opened(SignedLinks("http://house.test", b"l" * 32), tickets.issue(LINKS, **said), AT)


@given(statements())
def test_a_ticket_ends_at_its_moment(said):
    text = tickets.issue(LINKS, **said)
    tickets.opened(LINKS, text, said["expires_at"] - timedelta(microseconds=1))
    with pytest.raises(Gone):
        tickets.opened(LINKS, text, said["expires_at"])


@given(st.text(max_size=300) | st.text(alphabet=ALPHABET + ".", max_size=300))
def test_any_other_text_is_no_ticket(text):
    with pytest.raises(NotFound):
        tickets.opened(LINKS, text, AT)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_what_else_is_sealed_is_no_ticket(text):
    with pytest.raises(NotFound):
        tickets.opened(LINKS, LINKS.seal('{"of":"catalog.search","for":"' + text), AT)


@given(statements())
def test_the_holder_reaches_what_the_ticket_is_for_and_nothing_more(said):
    holder = tickets.principal_of(tickets.opened(LINKS, tickets.issue(LINKS, **said), AT))
    other = "0192d3c4-0000-7000-8000-000000000000"
    assert holder.kind == "guest"
    assert not holder.holds("items:write")
    assert holder.reaches(said["item_id"] or other, said["collection_id"])
    assert not holder.reaches(other, other)
    if said["item_id"] is not None:
        assert not holder.reaches(other, said["collection_id"])


@pytest.mark.parametrize(
    "wrong",
    [
        {"item_id": None, "collection_id": None},
        {"kind": "share", "key_id": None},
        {"key_id": "0192d3c4-0000-7000-8000-000000000000"},
        {"item_id": "no id"},
        {"profile": "p" * 256},
    ],
)
def test_a_ticket_for_nothing_or_without_its_row_is_not_issued(wrong):
    right = {
        "kind": "read",
        "organization_id": "0192d3c4-0000-7000-8000-000000000000",
        "item_id": "0192d3c4-0000-7000-8000-000000000000",
        "collection_id": None,
        "expires_at": AT,
    }
    with pytest.raises(ValueError):
        tickets.issue(LINKS, **{**right, **wrong})
