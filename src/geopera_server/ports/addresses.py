"""Which web addresses the house reads imagery from, and on which way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Addresses(Protocol):
    """Judges web addresses without asking the network; what a name leads to is judged when it is connected to."""

    def refusal_of(self, href: str) -> str | None:
        """Returns why an address that a caller named is not read, in words that follow it; None for one that is."""
        ...

    def way_to_listed(self) -> Mapping[str, str]:
        """Returns the GDAL options for what a caller names: hosts of the allow list alone, also behind redirects."""
        ...

    def way_to_public(self, *, known_host: str | None = None) -> Mapping[str, str]:
        """Returns the GDAL options under which a catalogue's address is read: public hosts, and the one it is known at."""
        ...
