"""What buyers ask for: the captures and tags they send, read, checked and looked up."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from shapely.geometry.base import BaseGeometry

from geopera_server.domains.catalog.captures import CaptureProblem, FoundCapture, WantedCapture
from geopera_server.domains.catalog.lookup import find_captures
from geopera_server.domains.orders import rules
from geopera_server.domains.orders.cart import CartLine
from geopera_server.kernel.context import Outside
from geopera_server.kernel.errors import InvalidInput, Unavailable
from geopera_server.kernel.geometry import read_geometry


class CaptureInput(BaseModel):
    """A capture to price; the server looks up everything else about it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    id: str = Field(min_length=1, max_length=500)
    host: str | None = Field(None, max_length=200)
    geometry: dict[str, Any] | None = None
    collection: str | None = Field(None, max_length=300)
    license_type: str | None = None


def read_cart(captures: Sequence[CaptureInput], *, default_license: str) -> list[CartLine]:
    """Returns the cart's lines with their areas read; raises InvalidInput that names the capture with a bad geometry."""
    read: dict[int, BaseGeometry] = {}  # one area may stand for many captures
    lines = []
    for index, capture in enumerate(captures):
        given = capture.geometry
        if given is not None and id(given) not in read:
            read[id(given)] = read_geometry(given, loc=("captures", index, "geometry"))
        lines.append(
            CartLine(
                index=index,
                capture_id=capture.id,
                host=capture.host,
                aoi=None if given is None else read[id(given)],
                license_type=capture.license_type or default_license,
            )
        )
    return lines


def check_licenses(lines: Sequence[CartLine], sold: Sequence[str]) -> None:
    """Raises InvalidInput that names the capture whose licence is not sold."""
    for line in lines:
        if line.license_type not in sold:
            raise InvalidInput(
                f"There is no licence {line.license_type!r}. Choose one of: {', '.join(sold)}.",
                loc=("captures", line.index, "licenseType"),
                code="unknown_field_value",
            )


async def find_all(outside: Outside, captures: Sequence[CaptureInput]) -> list[FoundCapture | CaptureProblem]:
    """Returns what each capture is; raises Unavailable when no host at all could be asked."""
    found = await find_captures(outside, [WantedCapture(each.host, each.id, each.collection) for each in captures])
    problems = [each for each in found if isinstance(each, CaptureProblem) and each.code == "host_failed"]
    if problems and len(problems) == len(found):
        raise Unavailable(problems[0].message, code="upstream_timeout", retry_after_s=10)
    return found


def check_tags(tags: Sequence[str]) -> list[str]:
    """Returns the tags without repeats; raises ValueError for too many or too long ones."""
    distinct = list(dict.fromkeys(tags))
    if len(distinct) > rules.MAX_TAGS or any(not 1 <= len(tag) <= rules.MAX_TAG_LENGTH for tag in distinct):
        raise ValueError(f"at most {rules.MAX_TAGS} tags of 1 to {rules.MAX_TAG_LENGTH} characters")
    return distinct
