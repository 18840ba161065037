"""Finds for each pixel of a tile where it lies in a raster.

Projecting all of them exactly would cost more than all else. A lattice of points is projected instead, and what lies
between is interpolated linearly where the middles of all cells' sides show that this is right to a twentieth of a pixel, in
the manner of GDAL's approximating transformer. Cells are made smaller until it is, down to single pixels: around a pole
or over half the globe a tile may need that.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyproj

from geopera_server.raster.georef import Floats
from geopera_server.raster.tiles.facts import Facts
from geopera_server.raster.tiles.levels import MAX_PART_PX, Level, Part, best_level
from geopera_server.raster.tiles.mercator import Tile

Floats32 = npt.NDArray[np.float32]

TOLERANCE_PX = 0.05
CELLS_PX = (64, 32, 16, 8, 1)
MARGIN_DEGREES = 0.01
STRIP_PX = 16_384
_KEPT_TRANSFORMERS = 32

_of_thread = threading.local()


@dataclass(frozen=True)
class Block:
    """A rectangle of tile pixels: first column and row, width and height."""

    column: int
    row: int
    width: int
    height: int


@dataclass(frozen=True)
class Lattice:
    """Full-resolution columns `x` and rows `y` at the nodes of a lattice over a block, (down, across)."""

    columns: Floats
    rows: Floats
    x: Floats
    y: Floats

    @cached_property
    def scale(self) -> float:
        """Full pixels per tile pixel, at the middle of what is there, in the direction in which they are fewest."""
        across = np.hypot(np.diff(self.x, axis=1), np.diff(self.y, axis=1)) / np.diff(self.columns)
        down = np.hypot(np.diff(self.x, axis=0), np.diff(self.y, axis=0)) / np.diff(self.rows)[:, None]
        sides = [float(np.median(side[np.isfinite(side)])) for side in (across, down) if np.isfinite(side).any()]
        return min(sides, default=1.0)

    def part(self, level: Level) -> Part | None:
        seen = np.isfinite(self.x) & np.isfinite(self.y)
        if not seen.any():
            return None
        x, y = self.x[seen] / level.x, self.y[seen] / level.y
        # A pixel more on each side: neighbours for interpolation, and room for the lattice's own error.
        left, right = max(0.0, np.floor(x.min()) - 1), min(level.width, np.ceil(x.max()) + 2)
        top, bottom = max(0.0, np.floor(y.min()) - 1), min(level.height, np.ceil(y.max()) + 2)
        if left >= right or top >= bottom:
            return None
        return Part(int(left), int(top), int(right - left), int(bottom - top))


@dataclass(frozen=True)
class Strip:
    """Where some rows of a block, from `top` on, lie in a part of a level.

    `x` and `y` are fractional columns and rows of the part at the pixels' centres. Where a grid lies straight under the
    tile, `x` has only columns (1, width) and `y` only rows (height, 1). `inside` is None when all pixels lie in the part.
    """

    top: int
    x: Floats32
    y: Floats32
    inside: npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Placed:
    """A block laid over a part of a level; its pixels' places are told in strips that stay in a processor's cache."""

    block: Block
    level: Level
    part: Part
    lattice: Lattice

    def strips(self) -> Iterator[Strip]:
        lattice, part = self.lattice, self.part
        x, y = lattice.x / self.level.x - part.column, lattice.y / self.level.y - part.row
        contained = _within(x, part.width) and _within(y, part.height)
        across = [_spread(_thin(nodes), lattice.columns, self.block.width) for nodes in (x, y)]
        step = int(lattice.rows[1] - lattice.rows[0])
        rows = max(1, STRIP_PX // self.block.width)
        for top in range(0, self.block.height, rows):
            count = min(rows, self.block.height - top)
            place = top + np.arange(count, dtype=np.float32)
            column, row = (_rows_at(nodes, place / np.float32(step)) for nodes in across)
            inside = None
            if not contained:
                inside = (column >= 0) & (column < part.width) & (row >= 0) & (row < part.height)
            yield Strip(top, column, row, inside)


def blocks_of(facts: Facts, tile: Tile) -> Iterator[Block]:
    """The rectangles of the tile in which the raster may have pixels: none, one, or two across the antimeridian."""
    west, south, east, north = facts.turned_box
    margin = max(MARGIN_DEGREES, (east - west) / 50)
    first_row, after_rows = tile.rows_of_latitudes(south - margin, north + margin)
    if first_row >= after_rows:
        return
    taken = 0
    for turn in (-720.0, -360.0, 0.0, 360.0, 720.0):
        first, after = tile.columns_of_longitudes(west + turn - margin, east + turn + margin)
        first = max(first, taken)
        if first < after:
            yield Block(first, first_row, after - first, after_rows - first_row)
            taken = after


def placed(facts: Facts, tile: Tile, block: Block) -> Placed | None:
    """Lays a block of the tile over the level that suits its scale; None where no pixel meets the raster."""
    lattice = _fitting(facts, tile, block)
    if lattice is None:
        return None
    index = best_level(facts.levels, lattice.scale)
    while True:
        level = facts.levels[index]
        part = lattice.part(level)
        if part is None:
            return None
        if part.width * part.height <= MAX_PART_PX or index == len(facts.levels) - 1:
            return Placed(block, level, part, lattice)
        index += 1


def _thin(nodes: Floats) -> Floats32:
    """The nodes as float32, reduced to one row or one column where the others only repeat it."""
    if not np.ptp(nodes, axis=0).any():
        nodes = nodes[:1]
    elif not np.ptp(nodes, axis=1).any():
        nodes = nodes[:, :1]
    return nodes.astype(np.float32)


def _spread(nodes: Floats32, columns: Floats, count: int) -> Floats32:
    """Values at the centres of all `count` columns, for each row of nodes."""
    step = int(columns[1] - columns[0])
    if nodes.shape[1] == 1 or step == 1:
        return nodes
    share = np.arange(step, dtype=np.float32) / np.float32(step)
    wide = np.diff(nodes, axis=1)[:, :, None] * share
    wide += nodes[:, :-1, None]
    whole: Floats32 = wide.reshape(len(nodes), -1)[:, :count]
    return whole


def _rows_at(nodes: Floats32, places: Floats32) -> Floats32:
    """Values at places between the rows of nodes, counted in rows of nodes."""
    if nodes.shape[0] == 1:
        return nodes
    first = np.minimum(places.astype(np.intp), len(nodes) - 2)
    share = (places - first)[:, None].astype(np.float32)
    low = nodes[first]
    with np.errstate(invalid="ignore"):
        found: Floats32 = low + (nodes[first + 1] - low) * share
    return found


def _within(values: Floats, size: int) -> bool:
    return bool(np.isfinite(values).all() and values.min() >= 0 and values.max() < size)


def _fitting(facts: Facts, tile: Tile, block: Block) -> Lattice | None:
    """The coarsest lattice that is right between its nodes; None where the block lies off the raster's projection."""
    for cell in CELLS_PX:
        columns, rows = _nodes(block.column, block.width, cell), _nodes(block.row, block.height, cell)
        x, y = _project(facts, tile, columns, rows)
        lattice = Lattice(columns, rows, x, y)
        if cell > 1 and _error(facts, tile, lattice, cell) <= TOLERANCE_PX * max(1.0, lattice.scale):
            return lattice
    return lattice if np.isfinite(lattice.x).any() else None


def _nodes(first: int, count: int, cell: int) -> Floats:
    """Centres of every `cell`-th pixel, the last at or behind the last pixel."""
    cells = max(1, -(-(count - 1) // cell))
    return first + 0.5 + cell * np.arange(cells + 1, dtype=np.float64)


def _error(facts: Facts, tile: Tile, lattice: Lattice, cell: int) -> float:
    """How far off interpolation can be: the sum of the worst along rows and the worst along columns.

    The middles of cells would not tell: there both curvatures of a conformal projection cancel each other out.
    """
    between_columns = _project(facts, tile, lattice.columns[:-1] + cell / 2, lattice.rows)
    between_rows = _project(facts, tile, lattice.columns, lattice.rows[:-1] + cell / 2)
    with np.errstate(invalid="ignore"):
        along_rows = [nodes[:, :-1] + nodes[:, 1:] for nodes in (lattice.x, lattice.y)]
        along_columns = [nodes[:-1] + nodes[1:] for nodes in (lattice.x, lattice.y)]
        off_rows = max(float(np.abs(sums / 2 - seen).max()) for sums, seen in zip(along_rows, between_columns, strict=True))
        off_columns = max(float(np.abs(sums / 2 - seen).max()) for sums, seen in zip(along_columns, between_rows, strict=True))
    worst = off_rows + off_columns
    return worst if np.isfinite(worst) else float("inf")


def _project(facts: Facts, tile: Tile, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """Full-resolution columns and rows of the raster under all crossings of tile columns and rows; not finite off it."""
    east, north = np.meshgrid(tile.eastings(columns), tile.northings(rows))
    if not facts.mercator:
        east, north = _transformer(facts).transform(east, north, errcheck=False)
    if facts.geographic:
        # Longitudes as the grid counts them, which may run on over ±180 or start at 0.
        west, _, far_east, _ = facts.turned_box
        east = east + 360.0 * np.round(((west + far_east) / 2 - east) / 360.0)
    back = ~facts.grid.transform
    with np.errstate(invalid="ignore"):
        return back.a * east + back.b * north + back.c, back.d * east + back.e * north + back.f


def _transformer(facts: Facts) -> pyproj.Transformer:
    """The way from Web Mercator to the raster's reference system; one for each thread, as they may not be shared."""
    kept: OrderedDict[str, pyproj.Transformer] = _of_thread.__dict__.setdefault("transformers", OrderedDict())
    found = kept.get(facts.wkt)
    if found is None:
        found = kept[facts.wkt] = pyproj.Transformer.from_crs("EPSG:3857", facts.grid.pyproj_crs, always_xy=True)
        if len(kept) > _KEPT_TRANSFORMERS:
            kept.popitem(last=False)
    kept.move_to_end(facts.wkt)
    return found
