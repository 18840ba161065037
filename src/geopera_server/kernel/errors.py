"""Everything an operation may refuse with, and the status each code travels under.

OperationError
├── Malformed            400  the body is not JSON
├── Unauthenticated      401  no credential, or one that is unknown, ended or expired
├── PaymentRequired      402  money, quota, plan or budget does not allow it
├── Denied               403  the principal may not do this
├── NotFound             404  there is no such thing, as far as the caller may know
├── Conflict             409  the present state does not allow it
├── Gone                 410  it was there, and its time is over
├── TooLarge             413  the body is larger than the server takes
├── InvalidInput         422  the input breaks the schema or a rule of the domain
├── RateLimited          429  too many calls; Retry-After tells when to come back
└── Unavailable      502/503  something outside, or the database, does not answer
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STATUS_OF_CODE = {
    "malformed_json": 400,
    "malformed_geometry_json": 400,
    "notice_refused": 400,
    "unauthenticated": 401,
    "insufficient_credits": 402,
    "no_payment_method": 402,
    "card_declined": 402,
    "payment_authentication_required": 402,
    "account_past_due": 402,
    "storage_quota_exceeded": 402,
    "budget_exceeded": 402,
    "approval_required": 402,
    "plan_limit_reached": 402,
    "missing_scope": 403,
    "role_required": 403,
    "human_required": 403,
    "org_suspended": 403,
    "invalid_share_password": 403,
    "not_found": 404,
    "unknown_operation": 404,
    "method_not_allowed": 405,
    "illegal_state": 409,
    "conflict": 409,
    "idempotency_mismatch": 409,
    "idempotency_in_progress": 409,
    "price_changed": 409,
    "not_cancellable": 409,
    "resource_busy": 409,
    "expired": 410,
    "retention_expired": 410,
    "share_expired": 410,
    "quotation_expired": 410,
    "request_timeout": 408,
    "body_too_large": 413,
    "range_not_satisfiable": 416,
    "invalid_input": 422,
    "invalid_geometry": 422,
    "unknown_field_value": 422,
    "eula_not_accepted": 422,
    "no_valid_pixels": 422,
    "url_not_allowed": 422,
    "rate_limited": 429,
    "egress_limited": 429,
    "too_many_attempts": 429,
    "internal_error": 500,
    "upstream_error": 502,
    "upstream_timeout": 503,
    "worker_unavailable": 503,
    "database_unavailable": 503,
}


class OperationError(Exception):
    """A refusal with a stable code, a sentence for the reader, and members the problem body adds."""

    default_code = "internal_error"

    def __init__(self, detail: str, *, code: str | None = None, retry_after_s: int | None = None, **members: Any) -> None:
        super().__init__(detail)
        self.code = code or self.default_code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.members = members

    @property
    def status(self) -> int:
        return STATUS_OF_CODE[self.code]


class Malformed(OperationError):
    default_code = "malformed_json"


class Unauthenticated(OperationError):
    default_code = "unauthenticated"


class PaymentRequired(OperationError):
    default_code = "insufficient_credits"


class Denied(OperationError):
    default_code = "role_required"


class NotFound(OperationError):
    """Raised alike for unknown ids, other organizations' ids and malformed ids."""

    default_code = "not_found"

    def __init__(self, what: str = "resource", **kwargs: Any) -> None:
        super().__init__(kwargs.pop("detail", f"There is no such {what}."), **kwargs)


class Conflict(OperationError):
    default_code = "conflict"


class Gone(OperationError):
    default_code = "expired"


class TimedOut(OperationError):
    default_code = "request_timeout"


class TooLarge(OperationError):
    default_code = "body_too_large"


Location = tuple[str | int, ...]


class InvalidInput(OperationError):
    """One or more places in the input that break the schema or a rule; each has loc, msg and type."""

    default_code = "invalid_input"

    def __init__(self, msg: str, *, loc: Sequence[str | int] = (), code: str | None = None, **members: Any) -> None:
        super().__init__(msg, code=code, **members)
        self.issues = [issue(msg, loc=loc, kind=self.code)]

    @classmethod
    def of(cls, issues: Sequence[dict[str, Any]]) -> InvalidInput:
        """Returns one error that lists all the given issues."""
        error = cls(str(issues[0]["msg"]))
        error.issues = list(issues)
        return error


class RateLimited(OperationError):
    default_code = "rate_limited"


class Unavailable(OperationError):
    default_code = "upstream_error"


def issue(msg: str, *, loc: Sequence[str | int], kind: str) -> dict[str, Any]:
    """Returns one entry of a 422's `detail` list, its location counted from the request body."""
    return {"loc": ["body", *loc], "msg": msg, "type": kind}
