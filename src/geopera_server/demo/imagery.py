"""Builds the demo imagery once, and finds it again quickly.

A scene is built in a folder of its own under `.building` and moved to its place when complete; the manifest comes last.
A build that was killed goes on with the first scene that is missing.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from geopera_server.demo.items import (
    ARCHIVE_COLLECTION,
    OPEN_COLLECTION,
    RECIPE,
    Document,
    archive_collection,
    archive_id,
    archive_item,
    bbox_of,
    footprint,
    open_collection,
    open_id,
    open_item,
    with_absolute_hrefs,
)
from geopera_server.demo.rasters import write_archive_files, write_open_files
from geopera_server.demo.series import Scene, choose_scenes, read_series

Progress = Callable[[int, int], None]

MANIFEST = "manifest.json"
BUILDING = ".building"
LOCK = ".lock"

# A square whose sides are 70 % as long covers 49 % of the area.
AOI_INSET = 0.15


@dataclass(frozen=True)
class DemoImagery:
    """Where the demo imagery lies and what it holds.

    Items and collections are STAC 1.0.0 with absolute hrefs, items in order of date. `aoi` is a GeoJSON Polygon well
    inside every footprint, over about half of it; `bbox` is west, south, east, north of the footprints.
    """

    folder: Path
    open_items: list[Document]
    archive_items: list[Document]
    aoi: Document
    bbox: list[float]
    open_collection: Document
    archive_collection: Document


@dataclass(frozen=True)
class _Product:
    collection: str
    name: Callable[[Scene], str]
    write_files: Callable[[Scene, Path], None]
    item: Callable[[Scene, Path], Document]


_OPEN = _Product(OPEN_COLLECTION, open_id, write_open_files, open_item)
_ARCHIVE = _Product(ARCHIVE_COLLECTION, archive_id, write_archive_files, archive_item)


def build_demo_imagery(
    folder: Path,
    *,
    progress: Progress | None = None,
    open_scenes: int = 24,
    archive_scenes: int = 12,
    base_href: str | None = None,
) -> DemoImagery:
    """Returns the demo imagery in the folder, building what is missing of it and touching nothing that is there.

    `progress` is told scenes done and scenes in all. Hrefs start with `base_href`, by default the folder's absolute
    path. Several processes may call this at once; one builds, the others wait. Raises DemoSourceError if there is
    something to build and the demo's packages are missing, and ValueError for more scenes than the series has dates.
    """
    folder = folder.resolve()
    recipe = {"version": RECIPE, "open_scenes": open_scenes, "archive_scenes": archive_scenes}
    report = progress or (lambda _done, _total: None)
    manifest = _complete_manifest(folder, recipe)
    if manifest is None:
        folder.mkdir(parents=True, exist_ok=True)
        with _only_builder(folder):
            manifest = _complete_manifest(folder, recipe) or _build(folder, recipe, report)
    total = open_scenes + archive_scenes
    report(total, total)
    return _imagery(folder, manifest, (base_href or str(folder)).rstrip("/"))


def _imagery(folder: Path, manifest: Document, base: str) -> DemoImagery:
    def items(product: _Product, found: list[Document]) -> list[Document]:
        return [with_absolute_hrefs(item, f"{base}/{product.collection}/{item['id']}") for item in found]

    return DemoImagery(
        folder=folder,
        open_items=items(_OPEN, manifest["open_items"]),
        archive_items=items(_ARCHIVE, manifest["archive_items"]),
        aoi=manifest["aoi"],
        bbox=manifest["bbox"],
        open_collection=with_absolute_hrefs(manifest["open_collection"], f"{base}/{OPEN_COLLECTION}"),
        archive_collection=with_absolute_hrefs(manifest["archive_collection"], f"{base}/{ARCHIVE_COLLECTION}"),
    )


def _build(folder: Path, recipe: Document, report: Progress) -> Document:
    series = read_series()
    choice = choose_scenes(series, recipe["open_scenes"], recipe["archive_scenes"])
    wanted = [(_OPEN, series.scene(position)) for position in choice.open_scenes]
    wanted += [(_ARCHIVE, series.scene(position)) for position in choice.archive_scenes]
    building = folder / BUILDING
    # What lies here was left by a build that was killed.
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    items: list[Document] = []
    for product, scene in wanted:
        report(len(items), len(wanted))
        items.append(_present_item(folder, product, scene) or _build_scene(folder, product, scene))
    manifest = _manifest(recipe, items, footprint(series.grid), footprint(series.grid, inset=AOI_INSET, points_per_side=1))
    for collection in (manifest["open_collection"], manifest["archive_collection"]):
        (folder / collection["id"]).mkdir(exist_ok=True)
        _write_json(folder / collection["id"] / "collection.json", collection, building)
    _write_json(folder / MANIFEST, manifest, building)
    building.rmdir()
    return manifest


def _manifest(recipe: Document, items: list[Document], outline: Document, aoi: Document) -> Document:
    open_items, archive_items = items[: recipe["open_scenes"]], items[recipe["open_scenes"] :]
    return {
        "recipe": recipe,
        "aoi": aoi,
        "bbox": bbox_of(outline),
        "open_collection": open_collection(open_items),
        "archive_collection": archive_collection(archive_items),
        "open_items": open_items,
        "archive_items": archive_items,
    }


def _build_scene(folder: Path, product: _Product, scene: Scene) -> Document:
    name = product.name(scene)
    draft, place = folder / BUILDING / name, folder / product.collection / name
    draft.mkdir()
    product.write_files(scene, draft)
    item = product.item(scene, draft)
    (draft / "item.json").write_bytes(_json(item))
    if place.exists():
        shutil.rmtree(place)
    place.parent.mkdir(exist_ok=True)
    draft.replace(place)
    return item


def _present_item(folder: Path, product: _Product, scene: Scene) -> Document | None:
    place = folder / product.collection / product.name(scene)
    item = _read_json(place / "item.json")
    if item is None or item["properties"].get("geopera:demo_recipe") != RECIPE or not _has_files(place, item):
        return None
    return item


def _complete_manifest(folder: Path, recipe: Document) -> Document | None:
    manifest = _read_json(folder / MANIFEST)
    if manifest is None or manifest.get("recipe") != recipe:
        return None
    items = [*manifest["open_items"], *manifest["archive_items"]]
    present = all(_has_files(folder / item["collection"] / item["id"], item) for item in items)
    return manifest if present else None


def _has_files(place: Path, item: Document) -> bool:
    try:
        return all((place / asset["href"]).stat().st_size == asset["file:size"] for asset in item["assets"].values())
    except FileNotFoundError:
        return False


def _read_json(path: Path) -> Document | None:
    try:
        found: Any = orjson.loads(path.read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _write_json(path: Path, document: Document, building: Path) -> None:
    content = _json(document)
    if path.exists() and path.read_bytes() == content:
        return
    draft = building / path.name
    draft.write_bytes(content)
    draft.replace(path)


def _json(document: Document) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


@contextmanager
def _only_builder(folder: Path) -> Iterator[None]:
    with (folder / LOCK).open("wb") as lock:
        # The lock ends with its process, so a killed builder keeps nobody out.
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
