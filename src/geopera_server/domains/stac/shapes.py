"""The inputs and outputs of searches."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from geopera_server.domains.stac.wanted import Filters

_MODEL = ConfigDict(allow_inf_nan=False, populate_by_name=True)
ItemType = Literal[
    "satellite_capture", "derived_raster", "derived_vector", "clip", "user_raster", "user_vector", "external_reference",
]  # fmt: skip


class SortClause(BaseModel):
    """A property to sort by, and which way."""

    field: str = Field(max_length=200)
    direction: str = "asc"


class SearchInput(BaseModel):
    """What to search in all projects, in the words of STAC's item search."""

    model_config = _MODEL

    collections: list[str] | None = None
    ids: list[str] | None = None
    bbox: list[float] | None = None
    intersects: dict[str, Any] | None = None
    datetime: str | None = None
    filter: dict[str, Any] | None = None
    filter_lang: str | None = Field("cql2-json", alias="filter-lang")
    query: dict[str, Any] | None = None
    fields_: dict[str, Any] | None = Field(None, alias="fields")
    sortby: list[SortClause] | None = None
    limit: int = Field(10, ge=1, le=10_000)
    page: int = Field(0, ge=0)
    token: str | None = None
    base_url: str = Field("", max_length=2_000)

    def filters(self) -> Filters:
        """Returns what is searched for, apart from which page of it."""
        return Filters(
            collections=self.collections,
            ids=self.ids,
            bbox=self.bbox,
            intersects=self.intersects,
            datetime=self.datetime,
            filter=self.filter,
            filter_lang=self.filter_lang,
            query=self.query,
            sortby=None if self.sortby is None else [clause.model_dump() for clause in self.sortby],
        )


class OrgItemSearchInput(BaseModel):
    """What to search in all projects, with names of collections and columns as well."""

    model_config = _MODEL

    bbox: list[float] | None = None
    datetime: str | None = None
    collections: list[str] | None = None
    type: ItemType | None = None
    query: dict[str, Any] | None = None
    sortby: list[dict[str, str]] | None = None
    limit: int = Field(100, ge=1, le=1_000)
    offset: int = Field(0, ge=0, le=2**53)
    format: str | None = None
    base_url: str | None = Field(None, max_length=2_000)


class ProjectItemSearchInput(OrgItemSearchInput):
    """What to search in one project."""

    project_id: str


class FeatureCollectionOutput(BaseModel):
    """Features, and how many there are on all pages."""

    model_config = ConfigDict(extra="allow")

    type: str = "FeatureCollection"
    features: list[Any]
    numberMatched: int = 0  # noqa: N815
    numberReturned: int = 0  # noqa: N815


class CollectionsListInput(BaseModel):
    """The address that links begin with; without one, this server's."""

    base_url: str = Field("", max_length=2_000)


class CollectionsReply(TypedDict):
    """All collections of an organization."""

    collections: list[dict[str, Any]]
    links: list[dict[str, Any]]
    numberMatched: int
    numberReturned: int
