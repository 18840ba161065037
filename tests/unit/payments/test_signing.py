"""Our notices and Stripe's are signed alike: either side's signer is believed by the other's verifier."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stripe import SignatureVerificationError, WebhookSignature

from geopera_server.adapters.payments.signing import SignedNotices, signature_of
from geopera_server.ports.payments import NoticeRefused
from geopera_server.values.clock import now

SECRET = "whsec_for_tests"
NOTICES = SignedNotices(SECRET.encode())
AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def event(told=None, **more) -> bytes:
    told = {"id": "pi_1", "object": "payment_intent"} if told is None else told
    return orjson.dumps(
        {"id": "evt_1", "type": "payment_intent.succeeded", "created": 1_772_366_400, "data": {"object": told}, **more}
    )


def signed_by_stripe(body: bytes, at: datetime = AT, secret: str = SECRET) -> str:
    return WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=int(at.timestamp()))


def test_stripes_signature_is_believed():
    body = event()
    notice = NOTICES.read(body, signed_by_stripe(body), AT)
    assert (notice.id, notice.type, notice.intent_id) == ("evt_1", "payment_intent.succeeded", "pi_1")
    assert notice.created_at == AT


@given(text=st.text(max_size=200), secret=st.text("abcdef_0123", min_size=1, max_size=40))
def test_both_sides_sign_alike(text, secret):
    body = text.encode()
    assert signature_of(body, secret.encode(), AT) == signed_by_stripe(body, AT, secret)


def test_our_signature_is_believed_by_stripe_and_a_forged_one_is_not():
    body = event()
    assert WebhookSignature.verify_header(body, signature_of(body, SECRET.encode(), now()), SECRET, tolerance=300)
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(body + b" ", signature_of(body, SECRET.encode(), now()), SECRET, tolerance=300)


def test_one_good_signature_of_several_is_enough():
    body = event()
    seconds, good = signed_by_stripe(body).split(",")
    old = signed_by_stripe(body, secret="whsec_before").split(",")[1]
    assert NOTICES.read(body, f"{seconds},{old},{good},v0=abc", AT).id == "evt_1"
    assert NOTICES.read(body, f"{seconds}, {good}", AT).id == "evt_1"
    with pytest.raises(NoticeRefused):
        NOTICES.read(body, f"{seconds},{old},{old}", AT)
    with pytest.raises(NoticeRefused):
        NOTICES.read(body, f"{seconds},{good.replace('v1', 'v0')}", AT)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_five_minutes_are_young_enough(seconds):
    body = event()
    assert NOTICES.read(body, signed_by_stripe(body), AT + timedelta(seconds=seconds)).id == "evt_1"


@pytest.mark.parametrize("seconds", [-301, 301, 86_400])
def test_more_are_not(seconds):
    body = event()
    with pytest.raises(NoticeRefused, match="five minutes"):
        NOTICES.read(body, signed_by_stripe(body), AT + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    "header",
    [
        None, "", "v1=00", "t=1", "t=,v1=00", "t=x,v1=00", "t=-1,v1=00", "t=1,t=2,v1=00", "t=" + "9" * 40 + ",v1=00",
        "t=²,v1=00", "t=1772366400,v1=\u00e9", "nonsense", "=,=,=",
    ],
)  # fmt: skip
def test_headers_that_prove_nothing(header):
    with pytest.raises(NoticeRefused):
        NOTICES.read(event(), header, AT)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b"\xff", b'{"id":"e"}', event(id=None), event(id=""), event(id="e" * 256), event(type=7),
        event(created="soon"), event(created=None), event(created=10**18), event(created=1e300), event(data=None), event(data=[]), event(told=[1]),
        event(told={"object": "payment_intent", "id": 7}), event(told={"object": "payment_intent", "id": "pi_\x00"}),
    ],
)  # fmt: skip
def test_bodies_that_are_no_event(body):
    with pytest.raises(NoticeRefused, match="no event"):
        NOTICES.read(body, signature_of(body, SECRET.encode(), AT), AT)


@pytest.mark.parametrize(
    ("told", "intent_id"),
    [
        ({"object": "charge", "id": "ch_1", "payment_intent": "pi_2"}, "pi_2"),
        ({"object": "dispute", "id": "dp_1", "payment_intent": {"id": "pi_3", "object": "payment_intent"}}, "pi_3"),
        ({"object": "refund", "id": "re_1", "payment_intent": None}, None),
        ({"object": "customer", "id": "cus_1"}, None),
    ],
)
def test_which_intent_a_notice_is_about(told, intent_id):
    body = event(told)
    assert NOTICES.read(body, signature_of(body, SECRET.encode(), AT), AT).intent_id == intent_id
