"""Names of files, checksums, media types, what belongs together: without a database."""

from __future__ import annotations

import pytest

from geopera_server.domains.uploads import rules

UPLOAD = {"id": "u", "project_id": "p", "total_bytes": 0}


@pytest.mark.parametrize(
    "name",
    ["a.tif", "A b (1).TIF", "naïve—ä.tif", "测试.tif", "x", "a.b.c", "-rf.tif", "x" * 251 + ".tif", "nul-b.tif", "com10.tif"],
)
def test_good_names(name):
    assert rules.file_name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", ".hidden", "a/b.tif", "/etc/passwd", "../a.tif", "a\\b.tif", "C:a.tif", "a\n.tif", "a\x7f.tif", "a\x00",
        "a\u202ex.tif", "con", "NUL.tif", "com1.tar.gz", "lpt9", "a.tif.", "a.tif ", " a.tif", "x" * 252 + ".tif", "é" * 128,
        "a*b.tif", "what?.tif", "<a>.tif", 'a".tif', "a|b.tif",
    ],
)  # fmt: skip
def test_bad_names(name):
    assert rules.file_name_problem(name) is not None


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("a.tif", "a.tif"), ("ä b.TIF", "b.TIF"), ("测试.tif", "file.tif"), ("x" * 300 + ".tif", "x" * 100 + ".tif"),
        ("noext", "noext"), ("a#1.tif", "a_1.tif"), ("a.t#f", "a.tf"),
    ],
)  # fmt: skip
def test_objects_have_plain_names(name, plain):
    assert rules.plain_name(name) == plain


def test_what_belongs_together():
    names = ["a.png", "b.tif", "A.PGW", "a.png.aux.xml", "b.tif.ovr", "c.shp", "c.dbf", "c.shp.xml", "d.aux.xml", "d.img"]
    assert rules.grouped(names) == [
        ["a.png", "A.PGW", "a.png.aux.xml"], ["b.tif", "b.tif.ovr"], ["c.shp", "c.dbf", "c.shp.xml"], ["d.aux.xml", "d.img"],
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["4waSgw==", "e3069283", "E3069283", "0xe3069283"])
def test_checksums_in_both_spellings(given):
    # CRC-32C of "123456789" (RFC 3720, B.4 has others).
    stored = rules.crc32c_text(bytes.fromhex("e3069283"))
    assert rules.same_crc32c(stored, given)
    assert not rules.same_crc32c(rules.crc32c_text(b"\0\0\0\0"), given)


@pytest.mark.parametrize("given", ["", "no base64", "4waSgw", "e306928", "é"])
def test_what_is_no_checksum_is_no_match(given):
    assert not rules.same_crc32c("4waSgw==", given)


@pytest.mark.parametrize(
    ("signed", "given", "same"),
    [
        ("image/tiff", "image/tiff", True),
        ("image/tiff", "IMAGE/TIFF", True),
        ("image/tiff; a=b", "image/tiff;a=b", True),
        ("image/tiff; a=b", "image/tiff", False),
        ("application/octet-stream", None, True),
        ("image/tiff", None, False),
        ("image/tiff", "text/plain", False),
    ],
)
def test_media_types_are_compared(signed, given, same):
    assert rules.same_media_type(signed, given) is same


@pytest.mark.parametrize("text", ["tiff", "image/", "image/tiff\r\nX: y", "/", "a b/c", "image/tiff;é", "x/" + "y" * 300])
def test_what_is_no_media_type(text):
    assert not rules.is_media_type(text)


def test_room_is_what_plan_and_declaration_leave():
    others = [{"size_bytes": 100, "transfer_bytes": None, "received_bytes": 0}]
    assert rules.room_for(UPLOAD, others, plan_bytes=None) == rules.MAX_BYTES - 100
    assert rules.room_for(UPLOAD, others, plan_bytes=150) == 50
    assert rules.room_for({**UPLOAD, "total_bytes": 120}, others, plan_bytes=150) == 20
    assert rules.room_for({**UPLOAD, "total_bytes": 20}, others, plan_bytes=150) == 0


@pytest.mark.parametrize(
    ("size", "total", "received", "weight"),
    [(None, None, 0, 0), (5, None, 0, 5), (5, 9, 2, 9), (None, None, 7, 7), (9, 5, 5, 9)],
)
def test_a_file_weighs_what_it_may_become(size, total, received, weight):
    assert rules.weight({"size_bytes": size, "transfer_bytes": total, "received_bytes": received}) == weight
