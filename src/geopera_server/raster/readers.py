"""Rasters kept open between tiles: opening and describing one costs more than reading a tile from it.

GDAL's datasets are not thread-safe, so that each open one has one user at a time; as many are open for one file as it
has users at once. Idle ones are bounded in number over all files, the longest unused are closed first. A new version
of a file closes what was open of the old one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from geopera_server.raster.env import gdal_env
from geopera_server.raster.source import GDAL_ERRORS, Source
from geopera_server.raster.tiles.costing import check_cost
from geopera_server.raster.tiles.facts import Facts, facts_of
from geopera_server.raster.tiles.levels import Level, Part

MAX_IDLE = 48
MAX_IDLE_EACH = 4
IDLE_S = 120.0


@dataclass(frozen=True)
class Target:
    """A raster to read: its address, and a word that changes when its content does, such as its checksum.

    `way` holds the GDAL options under which the network is asked; it is part of what a target is, so that an open
    file never serves a caller whose own way would have refused it.
    """

    href: str
    version: str
    way: tuple[tuple[str, str], ...] = ()

    @classmethod
    def on_way(cls, href: str, version: str, way: Mapping[str, str] | None) -> Target:
        return cls(href, version, tuple(sorted((way or {}).items())))

    @property
    def remote(self) -> bool:
        return self.href.lower().startswith("http")


class Reader:
    """One open raster in the hands of one user; `facts` are what was learnt from its header."""

    def __init__(self, target: Target, facts: Facts | None) -> None:
        self.target = target
        with self._env():
            self.source = Source(target.href)
            try:
                self.facts = facts if facts is not None else facts_of(self.source)
            except GDAL_ERRORS as error:
                self.source.dataset.close()
                raise self.source.header_error(error) from None
            except BaseException:
                self.source.dataset.close()
                raise
        self.idle_since = 0.0

    def read(self, bands: tuple[int, ...], level: Level, part: Part) -> npt.NDArray[Any]:
        """The pixels (band, row, column) of a part of a level, in the raster's own type; bands count from 1.

        Raises TooLarge where that would decode far more of the file than it shows.
        """
        check_cost(self.facts, level, part, len(bands))
        shape = (len(bands), part.height, part.width)
        window = level.window(part)
        if not self.target.remote:
            return self.source.read(window, bands=bands, shape=shape)
        with self._env():
            return self.source.read(window, bands=bands, shape=shape)

    def read_mask(self, level: Level, part: Part) -> npt.NDArray[np.bool_]:
        """True where the raster's mask band lets a pixel through, (row, column)."""
        window = level.window(part)
        if not self.target.remote:
            return self.source.read_mask(window, shape=(part.height, part.width))
        with self._env():
            return self.source.read_mask(window, shape=(part.height, part.width))

    def close(self) -> None:
        self.source.dataset.close()

    def _env(self) -> Any:
        return gdal_env(**dict(self.target.way))


@dataclass
class _Shelf:
    """What is kept of one target while anything of it is open."""

    facts: Facts | None = None
    idle: deque[Reader] = field(default_factory=deque)
    lent: int = 0


class ReaderPool:
    """Lends open rasters; at most `max_idle` wait unused, besides one for each user at work."""

    def __init__(self, *, max_idle: int = MAX_IDLE, idle_s: float = IDLE_S) -> None:
        self._max_idle = max_idle
        self._idle_s = idle_s
        self._lock = threading.Lock()
        self._shelves: OrderedDict[Target, _Shelf] = OrderedDict()
        self._versions: dict[str, str] = {}

    @contextmanager
    def lent(self, target: Target) -> Iterator[Reader]:
        """Lends a reader of the target for the length of the block; raises SourceError or TooLarge."""
        reader = self._take(target)
        sound = False
        try:
            yield reader
            sound = True
        finally:
            self._give_back(reader, sound=sound)

    def open_count(self) -> int:
        """Returns how many rasters are open, idle and in use."""
        with self._lock:
            return sum(len(shelf.idle) + shelf.lent for shelf in self._shelves.values())

    def close_idle(self, *, older_than_s: float = 0.0) -> None:
        """Closes what nobody uses, or has not used for so long."""
        with self._lock:
            gone = self._removed(lambda reader: time.monotonic() - reader.idle_since >= older_than_s)
        _close(gone)

    def forget(self, href: str) -> None:
        """Closes what is open of a file that is no more; what is in use closes when it comes back."""
        with self._lock:
            self._versions.pop(href, None)
            gone = self._removed(lambda reader: reader.target.href == href)
        _close(gone)

    def _take(self, target: Target) -> Reader:
        with self._lock:
            gone = self._outdated(target)
            shelf = self._shelves.setdefault(target, _Shelf())
            self._shelves.move_to_end(target)
            shelf.lent += 1
            facts = shelf.facts
            reader = shelf.idle.pop() if shelf.idle else None
        _close(gone)
        if reader is not None:
            return reader
        try:
            opened = Reader(target, facts)
        except BaseException:
            with self._lock:
                self._forget_user(target)
            raise
        shelf.facts = opened.facts
        return opened

    def _give_back(self, reader: Reader, *, sound: bool) -> None:
        with self._lock:
            gone = self._kept(reader) if sound else [reader]
            self._forget_user(reader.target)
            gone += self._overdue()
        _close(gone)

    def _kept(self, reader: Reader) -> list[Reader]:
        target = reader.target
        shelf = self._shelves[target]
        if self._versions.get(target.href) != target.version or len(shelf.idle) >= MAX_IDLE_EACH:
            return [reader]
        reader.idle_since = time.monotonic()
        shelf.idle.append(reader)
        return []

    def _forget_user(self, target: Target) -> None:
        shelf = self._shelves[target]
        shelf.lent -= 1
        self._drop_if_empty(target, shelf)

    def _drop_if_empty(self, target: Target, shelf: _Shelf) -> None:
        if not shelf.idle and not shelf.lent:
            del self._shelves[target]
            if not any(other.href == target.href for other in self._shelves):
                self._versions.pop(target.href, None)

    def _outdated(self, target: Target) -> list[Reader]:
        """Takes out what is open of another version, and lets this one be the version from now on."""
        before = self._versions.get(target.href)
        self._versions[target.href] = target.version
        if before is None or before == target.version:
            return []
        return self._removed(lambda reader: reader.target.href == target.href and reader.target.version != target.version)

    def _overdue(self) -> list[Reader]:
        """Takes out what has been idle too long, and the longest unused of more than may wait."""
        limit = time.monotonic() - self._idle_s
        gone = self._removed(lambda reader: reader.idle_since < limit)
        spare = sum(len(shelf.idle) for shelf in self._shelves.values()) - self._max_idle
        for target, shelf in list(self._shelves.items()):
            while spare > 0 and shelf.idle:
                gone.append(shelf.idle.popleft())
                spare -= 1
            self._drop_if_empty(target, shelf)
            if spare <= 0:
                break
        return gone

    def _removed(self, unwanted: Callable[[Reader], bool]) -> list[Reader]:
        gone: list[Reader] = []
        for target, shelf in list(self._shelves.items()):
            out = [reader for reader in shelf.idle if unwanted(reader)]
            if out:
                gone += out
                shelf.idle = deque(reader for reader in shelf.idle if reader not in out)
                self._drop_if_empty(target, shelf)
        return gone


def _close(readers: list[Reader]) -> None:
    for reader in readers:
        reader.close()


POOL = ReaderPool()
