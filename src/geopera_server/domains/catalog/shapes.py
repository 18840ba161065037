"""Inputs and outputs of the catalogue's operations, named as the contract names them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from geopera_server.domains.catalog.rules import MAX_LISTED

PAGE_MAX = 500
IMPORT_MAX = 10_000
PublicId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


def _closed_in_the_schema(schema: dict[str, Any]) -> None:
    schema.pop("additionalProperties", None)


def _host_required_in_the_schema(schema: dict[str, Any]) -> None:
    schema["properties"]["host_name"] = {"type": "string"}
    schema["required"] = ["host_name"]


class CloudQuery(BaseModel):
    """Conditions on one property; operators in lower case, `EQ` and `NEQ` are read too."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, json_schema_extra=_closed_in_the_schema)

    LT: float | None = None
    LTE: float | None = None
    GT: float | None = None
    GTE: float | None = None


class _Filters(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    collections: list[str] | None = None
    ids: list[str] | None = None
    bbox: list[float] | None = None
    intersects: dict[str, Any] | None = None
    datetime: str | None = None
    query: dict[str, CloudQuery] | None = None
    full_catalog: bool | None = None
    limit: int = Field(100, ge=1, le=PAGE_MAX)

    def conditions(self) -> dict[str, dict[str, Any]]:
        """Returns the property conditions as they were written."""
        return {name: each.model_dump() for name, each in (self.query or {}).items()}


class CatalogSearchInput(_Filters):
    model_config = ConfigDict(allow_inf_nan=False, json_schema_extra=_host_required_in_the_schema)

    host_name: str | None = None
    next: str | None = None


class CatalogSearchOutput(BaseModel):
    model_config = ConfigDict(extra="allow")


class FederatedSearchInput(_Filters):
    data_types: list[str] | None = None
    source_ids: list[str] | None = None


class SearchStreamInput(FederatedSearchInput):
    """As for a federated search; `limit` is for each source."""

    full_catalog: bool | None = Field(None, validation_alias=AliasChoices("full_catalog", "fullCatalog"))
    data_types: list[str] | None = Field(None, validation_alias=AliasChoices("data_types", "dataTypes"))
    source_ids: list[str] | None = Field(None, validation_alias=AliasChoices("source_ids", "sourceIds"))


class ImageAssetInput(BaseModel):
    host_name: str
    image_id: str


class SourceResultSummary(BaseModel):
    source_id: str
    title: str
    count: int
    error: str | None = None


class FederatedSearchOutput(BaseModel):
    model_config = ConfigDict(extra="allow")

    type: str = "FeatureCollection"
    features: list[Any] = []
    number_returned: int = Field(0, alias="numberReturned")
    sources: list[SourceResultSummary] = []


class CollectionDTO(BaseModel):
    model_config = ConfigDict(allow_inf_nan=False)

    id: str = Field(min_length=1, max_length=200)
    title: str
    data_type: str
    gsd: float | None = Field(None, gt=0)
    render_strategy: str
    render_params: dict[str, Any] = {}
    access_model: str


class SourceDTO(BaseModel):
    id: str
    title: str
    description: str
    access_model: str
    scope: str
    countries: list[str]
    attribution: str
    license: str
    collections: list[CollectionDTO]


class SourcesListInput(BaseModel):
    scope: str | None = None
    country: str | None = None
    data_type: str | None = None


class SourcesListOutput(BaseModel):
    sources: list[SourceDTO]


class VendorsListInput(BaseModel):
    pass


class Vendor(TypedDict):
    id: str
    name: str
    hosts: list[str]
    pricing_vendor: str
    collections: list[str]
    resolutions: list[str]
    capture_types: list[str]
    orderable: bool


class VendorsListReply(TypedDict):
    vendors: list[Vendor]


class ConnectorInput(BaseModel):
    """How a source is searched: `stac` at a URL, `index` for scenes imported here."""

    kind: Literal["stac", "index"]
    url: str | None = Field(None, pattern=r"^https?://[^\s/?#]+[^\s?#]*$", max_length=2000)
    auth_ref: str | None = Field(None, min_length=1, max_length=100)


class SourceSaveInput(BaseModel):
    id: PublicId
    title: str | None = Field(None, min_length=1, max_length=200)
    description: str | None = None
    access_model: Literal["open", "commercial"] | None = None
    scope: Literal["global", "regional", "national"] | None = None
    countries: list[Annotated[str, Field(pattern="^[A-Za-z]{2}$")]] | None = None
    attribution: str | None = None
    license: str | None = None
    collections: list[CollectionDTO] | None = None
    vendor: PublicId | None = None
    connector: ConnectorInput | None = None
    coverage: dict[str, Any] | None = None
    active: bool | None = None


class ScenesImportInput(BaseModel):
    host: str
    features: list[dict[str, Any]] = Field(max_length=IMPORT_MAX)
    replace: bool = False


class RejectedScene(TypedDict):
    id: str | None
    reason: str


class ScenesImportReply(TypedDict):
    imported: int
    updated: int
    rejected: list[RejectedScene]


class ScenesDeleteInput(BaseModel):
    host: str
    ids: list[str] = Field(min_length=1, max_length=IMPORT_MAX)


class ScenesDeleteReply(TypedDict):
    deleted: int


assert PAGE_MAX <= MAX_LISTED
