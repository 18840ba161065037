"""Real imagery for a first run: open data, a priced archive, and a place to order from it."""

from __future__ import annotations
