"""Ids are opaque strings to everyone; we make them as UUIDv7 so that they sort by time."""

from __future__ import annotations

import re
from typing import NewType

import uuid_utils

OrganizationId = NewType("OrganizationId", str)
ProjectId = NewType("ProjectId", str)
"""A project's id that an access rule has checked for the caller; only `domains.identity.access` makes these."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)


def new_id() -> str:
    """Returns a fresh UUIDv7 as text."""
    return str(uuid_utils.uuid7())


def is_id(value: str) -> bool:
    """Says whether the text has the form of an id; one that has not is unknown, never an error."""
    return _UUID.fullmatch(value) is not None
