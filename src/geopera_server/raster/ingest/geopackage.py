"""Looks through a GeoPackage, as the plain SQLite database it is, before GDAL opens it."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

from geopera_server.raster.ingest.bundle import Parts
from geopera_server.raster.ingest.refusals import Damaged, OutsideReference, UnsupportedFormat

_HEADER_BYTES = 100

# Views and columns made by functions run as soon as a table is read, with all the functions GDAL adds to SQLite.
_VIRTUAL = re.compile(r"\bUSING\s+[\"'\[`]?(\w+)", re.IGNORECASE)
_HARMLESS_MODULES = ("rtree", "fts3", "fts4", "fts5")
_REACHING = re.compile(
    r"load_extension|readfile|writefile|\battach\b|virtualogr|fts3_tokenizer|\bogr_\w+\s*\(|\bgdal_\w+\s*\(|/vsi",
    re.IGNORECASE,
)
_CALLED_ON_READING = re.compile(r"\bGENERATED\s+ALWAYS\b|\)\s*(?:VIRTUAL|STORED)\b", re.IGNORECASE)


def check_geopackage(parts: Parts) -> None:
    """Raises Damaged, UnsupportedFormat (another kind of SQLite database, or rasters) or OutsideReference."""
    _check_length(parts.path, parts.name)
    # Immutable: no journal or write-ahead log beside the file is looked for.
    address = f"file:{parts.path}?mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(address, uri=True)) as database:
            database.set_authorizer(_authorized)
            schema = database.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master").fetchall()
            _check_schema(parts.name, [(str(kind), str(name), str(sql)) for kind, name, sql in schema])
            contents = database.execute("SELECT table_name, data_type FROM gpkg_contents").fetchall()
    except sqlite3.Error as error:
        raise Damaged(f"{parts.name} is damaged: SQLite cannot read it ({error}). Send it again.") from error
    _check_contents(parts.name, contents)


def _check_length(path: Path, name: str) -> None:
    with path.open("rb") as file:
        head = file.read(_HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        raise Damaged(f"{name} is truncated. Send it again.")
    page_bytes = int.from_bytes(head[16:18], "big")
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    pages = int.from_bytes(head[28:32], "big")
    # The count is only kept up when both change counters agree.
    if head[24:28] == head[92:96] and pages * page_bytes > path.stat().st_size:
        raise Damaged(f"{name} is truncated: {pages:,} pages should be there. Send it again.")


def _authorized(action: int, _first: str | None, _second: str | None, _database: str | None, _trigger: str | None) -> int:
    allowed = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)
    return sqlite3.SQLITE_OK if action in allowed else sqlite3.SQLITE_DENY


def _check_schema(name: str, schema: list[tuple[str, str, str]]) -> None:
    if "gpkg_contents" not in {table.lower() for _, table, _ in schema}:
        raise UnsupportedFormat(f"{name} is a SQLite database but no GeoPackage; export it as GeoPackage.")
    for kind, table, sql in schema:
        module = _VIRTUAL.search(sql) if re.match(r"\s*CREATE\s+VIRTUAL", sql, re.IGNORECASE) else None
        if module is not None and module[1].lower() not in _HARMLESS_MODULES:
            raise _reaching(name, table)
        if kind == "view" and not _REACHING.search(sql):
            # One line of SQL can keep a processor busy for ever, whether the contents name it or not.
            raise UnsupportedFormat(f"{name} holds the view {table}, and only tables are read; save it as a layer of its own.")
        if _REACHING.search(sql) or (kind == "table" and _CALLED_ON_READING.search(sql)):
            raise _reaching(name, table)


def _check_contents(name: str, contents: list[tuple[object, object]]) -> None:
    for table, kind in contents:
        if str(kind).lower() in ("tiles", "2d-gridded-coverage"):
            raise UnsupportedFormat(f"{name} holds a raster ({table}); export it as GeoTIFF, and the vectors by themselves.")


def _reaching(name: str, table: str) -> OutsideReference:
    return OutsideReference(
        f"{name} holds a definition ({table}) that may read other files or run extensions; export its layers anew."
    )
