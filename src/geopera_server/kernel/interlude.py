"""What a change does when something outside has to happen before it can go on: it steps back, and comes again.

The handler raises Interlude from inside its transaction. All that the transaction did is taken back, the interlude is played
with no transaction open, and the handler runs again from the start. What was played outside has to be kept in rows by the
interlude itself, for a crash may come at any point of it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from geopera_server.kernel.context import Outside

MOST_INTERLUDES = 6


class Interlude(Exception):
    """Not a refusal: `play` is to run outside, then the call begins anew. Its own refusals are the call's refusals."""

    def __init__(self, play: Callable[[Outside], Awaitable[None]]) -> None:
        super().__init__("something outside has to happen first")
        self.play = play
