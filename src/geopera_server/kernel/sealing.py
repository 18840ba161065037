"""The key that signs sealed blocks of the lineage."""

from __future__ import annotations

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


class SealingKey:
    """The platform's Ed25519 key; whoever has the public part can check every sealed block offline."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._public = self._private.public_key()
        self.id = hashlib.sha256(self.public_bytes).hexdigest()[:16]

    @property
    def public_bytes(self) -> bytes:
        return self._public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def sign(self, message: bytes) -> str:
        return base64.b64encode(self._private.sign(message)).decode()

    def verifies(self, message: bytes, signature: str) -> bool:
        return verifies(self._public, message, signature)


def verifies(public: Ed25519PublicKey, message: bytes, signature: str) -> bool:
    """Says whether the signature is the key's own over exactly this message."""
    try:
        public.verify(base64.b64decode(signature, validate=True), message)
    except (InvalidSignature, ValueError):
        return False
    return True
