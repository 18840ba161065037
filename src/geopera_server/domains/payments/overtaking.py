"""Charges that are not begun, because what they were decided on has changed since."""

from __future__ import annotations

from psycopg import errors

from geopera_server.kernel.context import Outside
from geopera_server.kernel.interlude import Interlude

NOT_WANTED = "GP003"


def unless_overtaken(interlude: Interlude) -> Interlude:
    """Returns the interlude as one that ends quietly when its charge is not wanted any more: the call then decides anew."""

    async def play(outside: Outside) -> None:
        try:
            await interlude.play(outside)
        except errors.DatabaseError as error:
            if error.sqlstate != NOT_WANTED:
                raise

    return Interlude(play)
