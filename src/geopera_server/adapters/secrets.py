"""What only this deployment can make: digests and seals under keys derived from its one secret."""

from __future__ import annotations

import functools
import hashlib
import hmac

from geopera_server.kernel.sealing import SealingKey
from geopera_server.settings import Settings


class SettingsSecrets:
    """Digests and signature checks under the keys that the settings derive."""

    def __init__(self, settings: Settings) -> None:
        self._key_for = functools.cache(settings.key_for)
        self._sealing_key = functools.cache(lambda: SealingKey(settings.key_for("lineage")))

    def digest(self, purpose: str, text: str) -> bytes:
        """Returns the HMAC-SHA256 of a text under the key for one purpose."""
        return hmac.digest(self._key_for(purpose), text.encode(), hashlib.sha256)

    def verifies_seal(self, message: bytes, signature: str) -> bool:
        """Says whether the signature is this deployment's own over a sealed block of lineage."""
        return self._sealing_key().verifies(message, signature)
