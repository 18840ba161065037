"""Addresses of this deployment, and tokens that only it can have made."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime
from urllib.parse import quote, urlencode

_SIGNATURE_BYTES = 16


class SignedLinks:
    """Makes signed addresses with one key; any process with the same key can check them."""

    def __init__(self, base_url: str, key: bytes) -> None:
        self.base_url = base_url.rstrip("/")
        self._key = key

    def download(self, path: str, *, file_name: str, media_type: str, expires_at: datetime) -> str:
        """Returns an address that serves the stored object to whoever holds it, until it expires."""
        expires = str(int(expires_at.timestamp()))
        query = {"expires": expires, "name": file_name, "type": media_type}
        query["signature"] = self._mac("download", path, expires, file_name, media_type)
        return f"{self.base_url}/files/{quote(path)}?{urlencode(query)}"

    def permits_download(self, path: str, *, expires: str, file_name: str, media_type: str, signature: str) -> bool:
        """Says whether the signature is ours over exactly these; whether it has expired is the caller's to see."""
        made = self._mac("download", path, expires, file_name, media_type)
        return hmac.compare_digest(made.encode(), signature.encode())

    def seal(self, text: str) -> str:
        """Returns a token that holds the text readably and cannot be forged."""
        return f"{base64.urlsafe_b64encode(text.encode()).decode().rstrip('=')}.{self._mac('seal', text)}"

    def unseal(self, token: str) -> str | None:
        """Returns the text of a token of ours; None for anything else."""
        encoded, _, mac = token.partition(".")
        try:
            text = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
        except ValueError:
            return None
        return text if hmac.compare_digest(self._mac("seal", text).encode(), mac.encode()) else None

    def _mac(self, *parts: str) -> str:
        message = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
        digest = hmac.digest(self._key, message, hashlib.sha256)[:_SIGNATURE_BYTES]
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")
