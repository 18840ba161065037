"""What an operation is: one typed function with a declared id, effect, scope and artifact kinds."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, TypeAdapter

from geopera_server.kernel.answers import Answer
from geopera_server.kernel.context import Outside
from geopera_server.kernel.principal import RateClass

Effect = Literal["read", "compute", "external_spend", "share_export", "destructive"]
Handler = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Handler)

OPERATION_ATTRIBUTE = "__geopera_operation__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The descriptor that routes, OpenAPI, documentation and policy are projected from."""

    id: str
    effect: Effect
    scope: str
    handler: Handler
    input_model: type[BaseModel]
    output: TypeAdapter[Any]
    output_type: Any
    summary: str
    description: str
    status: int = 200
    produces: tuple[str, ...] = ()
    raw: bool = False
    public: bool = False
    free_form: bool = False
    media_type: str | None = None
    other_media_types: tuple[str, ...] = ()  # what a caller may get instead, by what they accept
    json_media_type: str = "application/json"
    prepare: Handler | None = None
    goes_outside: bool = False
    snapshot: bool = False
    rate_class: RateClass = "default"
    idempotent: bool = False
    secret_id_field: str | None = None
    while_suspended: bool = False
    while_past_due: bool = False
    while_leaving: bool = False
    internal: bool = False
    extension: bool = False
    aliases: tuple[str, ...] = ()
    example: dict[str, Any] | None = None
    version: str = "1"

    @property
    def reads(self) -> bool:
        return self.effect == "read"

    @property
    def spends(self) -> bool:
        return self.effect == "external_spend"

    @property
    def for_operators(self) -> bool:
        return ".admin." in self.id

    @property
    def sole_id_input(self) -> str | None:
        """The one required `…_id` input, for which `id` is accepted too."""
        required = [field.alias or name for name, field in self.input_model.model_fields.items() if field.is_required()]
        return required[0] if len(required) == 1 and required[0].endswith("_id") else None


def operation(
    operation_id: str,
    *,
    effect: Effect,
    scope: str,
    example: dict[str, Any] | None = None,
    **declared: Any,
) -> Callable[[F], F]:
    """Declares the decorated function as an operation; its annotations name the input and output models.

    The first sentence of the docstring becomes the summary. A handler whose context is `Outside` may use the network and
    runs without a transaction; only reads may be such. Anything else that needs the network does it in `prepare`.
    """

    def declare(handler: F) -> F:
        hints = typing.get_type_hints(handler, include_extras=True)
        parameters = list(inspect.signature(handler).parameters)
        summary, _, rest = inspect.cleandoc(handler.__doc__ or "").partition("\n")
        goes_outside = hints[parameters[0]] is Outside
        if goes_outside and effect != "read":
            raise TypeError(f"{operation_id}: only a read may go outside; use prepare=")
        described = Operation(
            id=operation_id,
            effect=effect,
            scope=scope,
            handler=handler,
            input_model=hints[parameters[1]],
            output=_adapter(hints["return"]),
            output_type=hints["return"],
            summary=summary,
            description=rest.strip(),
            goes_outside=goes_outside,
            example=example,
            rate_class=declared.pop("rate_class", "spend" if effect == "external_spend" else "default"),
            idempotent=declared.pop("idempotent", effect == "external_spend"),
            while_suspended=declared.pop("while_suspended", effect == "read"),
            **declared,
        )
        setattr(handler, OPERATION_ATTRIBUTE, described)
        return handler

    return declare


def _adapter(output_type: Any) -> TypeAdapter[Any]:
    """Returns the schema of what is answered; of bytes and streams there is none."""
    answers = set(typing.get_args(Answer))
    no_json = bool({output_type, *typing.get_args(output_type)} & answers)
    return TypeAdapter(Any if no_json else output_type)


def operation_of(handler: Handler) -> Operation:
    """Returns the operation that a handler was declared as."""
    declared = getattr(handler, OPERATION_ATTRIBUTE)
    assert isinstance(declared, Operation)
    return declared
