"""What the OAuth endpoints refuse with: the words of RFC 6749, 6750, 7009, 7591, 8628 and 8707."""

from __future__ import annotations


class OAuthError(Exception):
    """A refusal as OAuth clients read it: one registered word and a sentence."""

    def __init__(self, error: str, description: str, *, status: int = 400, retry_after_s: int | None = None) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description
        self.status = status
        self.retry_after_s = retry_after_s


def invalid_request(description: str) -> OAuthError:
    """Returns the error for a request that lacks a parameter, repeats one or makes no sense."""
    return OAuthError("invalid_request", description)


def invalid_client(description: str) -> OAuthError:
    """Returns the error for a client that is unknown or does not prove who it is."""
    return OAuthError("invalid_client", description, status=401)


def invalid_grant(description: str) -> OAuthError:
    """Returns the error for a password, code or refresh token that is not good, or not this client's."""
    return OAuthError("invalid_grant", description)


def too_many_attempts(wait_s: int) -> OAuthError:
    """Returns the error for a sign-in that is refused for a while whatever the password."""
    return OAuthError(
        "too_many_attempts",
        f"Too many wrong passwords. Try again in {wait_s} s.",
        status=429,
        retry_after_s=wait_s,
    )
