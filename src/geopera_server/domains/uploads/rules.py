"""What holds for uploads whatever stores them: states, names of files, where they lie, and how much may come. Pure."""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

from geopera_server.kernel.errors import Conflict

Status = Literal["initiating", "uploading", "detecting", "converting", "reviewing", "registering", "completed", "failed"]
ENDED = frozenset({"completed", "failed"})
IDLE_FOR = timedelta(hours=24)
ADDRESS_LIVES_FOR = timedelta(hours=1)
MAX_FILES = 1_000
MAX_NAME_BYTES = 255
MAX_BYTES = 2**50
DEFAULT_TYPE = "application/octet-stream"

_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+(?:\s*;[\x20-\x7e]*)?")
_FORBIDDEN = re.compile(r'[/\\:*?"<>|]')
# Names that Windows keeps for devices, with any extension.
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE | re.DOTALL)
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")
# Files that say something about another file, whose whole name theirs begins with.
_COMPANIONS = (".aux.xml", ".ovr", ".msk", ".xml")


def file_name_problem(name: str) -> str | None:
    """Returns what is wrong with the base name of a file, in words that follow "A file name"; None for a good one."""
    problems = {
        "must not be empty or begin with a dot": not name or name.startswith("."),
        'is a base name: none of / \\ : * ? " < > | may be in it': _FORBIDDEN.search(name),
        "must not hold control characters": any(unicodedata.category(character).startswith("C") for character in name),
        "must not end with a dot, nor begin or end with a space": name != name.rstrip(" .").lstrip(" "),
        "must not be one that operating systems keep for devices": _DEVICES.fullmatch(name),
        f"has at most {MAX_NAME_BYTES} bytes": len(name.encode()) > MAX_NAME_BYTES,
    }
    return next((words for words, holds in problems.items() if holds), None)


def is_media_type(text: str) -> bool:
    """Says whether a text has the form of a media type."""
    return len(text) <= MAX_NAME_BYTES and _MEDIA_TYPE.fullmatch(text) is not None


def same_media_type(signed: str, sent: str | None) -> bool:
    """Says whether a Content-Type is the one an address was signed for; none sent is taken as unspecified bytes."""
    return _spelled(signed) == _spelled(sent or DEFAULT_TYPE)


def _spelled(media_type: str) -> tuple[str, ...]:
    kind, *parameters = (part.strip() for part in media_type.split(";"))
    return (kind.lower(), *parameters)


def plain_name(name: str) -> str:
    """Returns a name for an object that every store takes, with the extension kept."""
    stem, dot, extension = name.rpartition(".")
    if not dot:
        stem, extension = name, ""
    plain = _PLAIN.sub("_", stem).strip("._")[:100] or "file"
    extension = _PLAIN.sub("", extension)[:20]
    return f"{plain}.{extension}" if extension else plain


def folder_of(upload: Mapping[str, Any]) -> str:
    """Returns where all objects of a session lie."""
    return f"projects/{upload['project_id']}/uploads/{upload['id']}"


def raw_prefix(upload: Mapping[str, Any]) -> str:
    """Returns where the files lie as they came."""
    return f"{folder_of(upload)}/raw/"


def processed_prefix(upload: Mapping[str, Any]) -> str:
    """Returns where the files lie that were made of them."""
    return f"{folder_of(upload)}/processed/"


def object_path(upload: Mapping[str, Any], file_name: str) -> str:
    """Returns what clients know a file of a session by."""
    return f"{raw_prefix(upload)}{file_name}"


def idle_until(at: datetime) -> datetime:
    """Returns when a session ends by itself if nothing happens to it from then on."""
    return at + IDLE_FOR


def weight(file: Mapping[str, Any]) -> int:
    """Returns the bytes that a file takes of its session: what is stored of it, or will be when its transfer is complete."""
    return int(max(file["size_bytes"] or 0, file["transfer_bytes"] or 0, file["received_bytes"]))


def room_for(upload: Mapping[str, Any], others: Iterable[Mapping[str, Any]], *, plan_bytes: int | None) -> int:
    """Returns how many bytes a file may have beside the others of its session: by the plan, and by what was declared."""
    taken = sum(weight(file) for file in others)
    limits = [limit for limit in (plan_bytes, upload["total_bytes"] or None) if limit is not None]
    return max(0, min([MAX_BYTES, *limits]) - taken)


def wanted_reservation(upload: Mapping[str, Any], files: Iterable[Mapping[str, Any]]) -> int:
    """Returns what an open session has to hold: what was declared, else what has come."""
    return int(upload["total_bytes"] or sum(weight(file) for file in files))


def require_open(upload: Mapping[str, Any]) -> None:
    """Raises Conflict (`illegal_state`) for a session that has ended."""
    if upload["status"] in ENDED:
        raise Conflict(
            f"This upload is {upload['status']} and takes nothing more. Begin another one with uploads.initiate.",
            code="illegal_state",
        )


def grouped(names: Sequence[str]) -> list[list[str]]:
    """Returns file names in groups that belong together, as a picture and its world file do: by what they begin with."""
    groups: dict[str, list[str]] = {}
    lower = {name.lower() for name in names}
    for name in names:
        groups.setdefault(_stem(name.lower(), lower), []).append(name)
    return list(groups.values())


def _stem(name: str, names: set[str]) -> str:
    for suffix in _COMPANIONS:
        main = name.removesuffix(suffix)
        if main != name and main in names:
            return _stem(main, names)
        if main != name and suffix == ".aux.xml":
            return main
    return PurePosixPath(name).stem


def crc32c_text(digest: bytes) -> str:
    """Returns a CRC32C as object stores write it: four bytes, most significant first, in base64."""
    return base64.b64encode(digest).decode()


def same_crc32c(stored: str, given: str) -> bool:
    """Says whether a given checksum, in base64 or eight hexadecimal digits, is the stored one."""
    if re.fullmatch(r"(?:0x)?[0-9A-Fa-f]{8}", given):
        return crc32c_text(bytes.fromhex(given[-8:])) == stored
    try:
        return base64.b64decode(given, validate=True) == base64.b64decode(stored)
    except (binascii.Error, ValueError):
        return False
