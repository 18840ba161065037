"""What holds for names, numbers, passwords and keys, and what a role may do in a project; pure."""

from __future__ import annotations

import re
import secrets
import unicodedata
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

ProjectRole = Literal["owner", "admin", "editor", "viewer"]
Right = Literal["read", "write", "admin"]
RIGHTS: tuple[Right, ...] = ("read", "write", "admin")
ABILITIES: dict[ProjectRole, tuple[str, ...]] = {
    "owner": ("read", "write", "admin", "transfer"),
    "admin": ("read", "write", "admin"),
    "editor": ("read", "write"),
    "viewer": ("read",),
}

KEY_MARK = "gpra_"
KEY_PREFIX_LENGTH = 12
MIN_PASSWORD_LENGTH = 10
MAX_PASSWORD_LENGTH = 256

FREE_FAILURES = 5
FIRST_LOCK = timedelta(seconds=30)
LONGEST_LOCK = timedelta(minutes=15)
FAILURES_FORGOTTEN_AFTER = timedelta(hours=1)

_ABN_WEIGHTS = (10, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19)
_EMAIL = re.compile(r"[^@\s,;<>()\"]{1,64}@[^@\s,;<>()\"]{1,190}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a principal stands to one project."""

    same_organization: bool
    is_human: bool
    organization_role: str | None
    project_role: str | None
    reads_everywhere: bool


def right_in_project(standing: Standing) -> Right | None:
    """Returns the strongest right that a principal has in a project; None when it may not know of it.

    Keys act for their organization as a whole. Every member reads every project of the organization.
    """
    if not standing.same_organization:
        return "read" if standing.reads_everywhere else None
    if not standing.is_human or standing.organization_role in {"owner", "admin"}:
        return "admin"
    if standing.project_role in {"owner", "admin"}:
        return "admin"
    return "write" if standing.project_role == "editor" else "read"


def slug_of(name: str) -> str:
    """Returns the name in lower-case ASCII letters, digits and single hyphens, at most 60 long; never empty."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:60].rstrip("-") or "organization"


def free_slug(wanted: str, taken: set[str]) -> str:
    """Returns the slug, or with the first free number from 2 behind it."""
    if wanted not in taken:
        return wanted
    number = 2
    while f"{wanted}-{number}" in taken:
        number += 1
    return f"{wanted}-{number}"


def is_abn(text: str) -> bool:
    """Says whether the text is an Australian Business Number: 11 digits, weighted sum divisible by 89 (abr.gov.au)."""
    digits = text.replace(" ", "")
    if not re.fullmatch(r"[1-9][0-9]{10}", digits):
        return False
    first, *rest = (int(digit) for digit in digits)
    weighted = sum(weight * digit for weight, digit in zip(_ABN_WEIGHTS, (first - 1, *rest), strict=True))
    return weighted % 89 == 0


def is_website(text: str) -> bool:
    """Says whether the text is an http(s) address with a host and without credentials."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and "@" not in parts.netloc and " " not in text
    except ValueError:
        return False


def is_email(text: str) -> bool:
    """Says whether the text can be a mail address; only a mail that arrives proves one."""
    return _EMAIL.fullmatch(text) is not None


def password_refusal(password: str, *, email: str) -> str | None:
    """Returns why a password is not taken, or None; length counts, kinds of characters do not (NIST SP 800-63B, 5.1.1.2)."""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        return f"A password has {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters."
    if len(set(password)) < 5:
        return "This password repeats too few characters. Use a longer phrase."
    if password.lower() in {email.lower(), email.lower().partition("@")[0]}:
        return "The password must not be the mail address."
    return None


def comparable_password(password: str) -> str:
    """Returns the form that is hashed: the same for every way a keyboard may compose the characters."""
    return unicodedata.normalize("NFKC", password)


def new_key_secret() -> str:
    """Returns a fresh API key: 256 random bits, marked as ours."""
    return KEY_MARK + secrets.token_urlsafe(32)


def lock_after(failures: int) -> timedelta | None:
    """Returns how long an account refuses sign-ins after this many wrong passwords in a row."""
    if failures < FREE_FAILURES:
        return None
    doublings = min(failures - FREE_FAILURES, 10)
    return min(LONGEST_LOCK, FIRST_LOCK * (1 << doublings))
