"""An expected failure of a command."""

from __future__ import annotations


class Trouble(Exception):
    """What went wrong with a deployment or its surroundings; the text says what happened and what to do."""
