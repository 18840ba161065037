"""Promises about the code itself that no type checker sees."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

SOURCE = Path(__file__).parents[2] / "src"
PACKAGE = SOURCE / "geopera_server"
MODULES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "service", "services", "base", "common", "misc"}


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_module_is_small_and_well_named(path):
    assert len(path.read_text().splitlines()) <= 500
    assert path.stem not in FORBIDDEN_NAMES


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_only_the_clock_reads_the_clock(path):
    if path == PACKAGE / "values" / "clock.py":
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
    naked = [ast.unparse(node) for node in calls if ast.unparse(node) in {"datetime.now", "datetime.utcnow", "time.time"}]
    assert not naked


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nobody_commits_by_hand(path):
    commits = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in {"commit", "rollback"}
    ]
    assert not commits, "the kernel's transaction blocks begin and end transactions"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_sql_is_constant(path):
    for call in executions(ast.parse(path.read_text())):
        for part in ast.walk(call.args[0]):
            assert not isinstance(part, (ast.JoinedStr, ast.Mod)), f"line {call.lineno} builds SQL from values"
            assert not (isinstance(part, ast.Attribute) and part.attr == "format"), f"line {call.lineno} formats SQL"


def executions(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"execute", "executemany"}
            and node.args
        ):
            yield node


def statements(path: Path) -> Iterator[tuple[int, str]]:
    module = importlib.import_module(name_of(path))
    for call in executions(ast.parse(path.read_text())):
        for text in texts(call.args[0], vars(module)):
            yield call.lineno, text


def texts(expression: ast.expr, names: dict) -> list[str]:
    """Returns every text a constant expression can have; none when it is made of values known only at run time."""
    match expression:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.Name(id=name):
            return [names[name]] if isinstance(names.get(name), str) else []
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [a + b for a, b in itertools.product(texts(left, names), texts(right, names))]
        case ast.Subscript(value=ast.Name(id=name)) if isinstance(names.get(name), dict):
            return [text for text in names[name].values() if isinstance(text, str)]
    return []


# What raster work asks is a GeoPackage, which is SQLite.
ASKING = [path for path in MODULES if PACKAGE / "raster" not in path.parents and "embedded" not in path.stem]
STORES = [path for path in ASKING if any(executions(ast.parse(path.read_text())))]
SESSION_WORDS = ("BEGIN", "SET ", "LISTEN", "SAVEPOINT", "CREATE ", "DROP ", "COMMIT", "ROLLBACK", "ALTER ", "NOTIFY")


@pytest.mark.parametrize("path", STORES, ids=name_of)
def test_every_statement_prepares(path, database):
    """A typo or a renamed column fails here, before any data reaches the statement."""
    with psycopg.connect(database, autocommit=True) as conn:
        for number, (line, text) in enumerate(statements(path)):
            if text.startswith("CREATE TEMPORARY TABLE"):
                conn.execute(text.encode())  # later statements of the module use it
            if text.lstrip().upper().startswith(SESSION_WORDS):
                continue
            try:
                conn.execute(f"PREPARE checked_{number} AS {numbered(text)}".encode())
            except psycopg.errors.Error as error:
                pytest.fail(f"{path.name}:{line}: {error}\n{text}")


def numbered(text: str) -> str:
    """Returns the statement with PostgreSQL's own placeholders."""
    names: dict[str, int] = {}
    counter = itertools.count(1)

    def placeholder(match: re.Match[str]) -> str:
        if match.group(0) == "%%":
            return "%"
        name = match.group(1)
        if name is None:
            return f"${next(counter)}"
        return f"${names.setdefault(name, len(names) + 1)}"

    return re.sub(r"%%|%\((\w+)\)s|%s", placeholder, text)


DOMAINS = PACKAGE / "domains"


@pytest.mark.parametrize("path", [path for path in MODULES if path.is_relative_to(DOMAINS)], ids=name_of)
def test_a_domain_leaves_the_rows_and_operations_of_others_alone(path):
    own = path.relative_to(DOMAINS).parts[0]
    foreign = [
        name
        for name in imported(ast.parse(path.read_text()))
        if (match := re.match(r"geopera_server\.domains\.(\w+)\.(store|operations)\b", name)) and match.group(1) != own
    ]
    assert not foreign, "another domain is asked through its rules or a named public function"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
