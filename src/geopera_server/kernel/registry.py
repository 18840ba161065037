"""All operations by id, gathered from the `operations` modules of the domains."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from types import ModuleType

from geopera_server.kernel.operation import OPERATION_ATTRIBUTE, Operation


class Registry:
    """Answers which operations exist; refuses two with one id and ids that are prefixes of one another."""

    def __init__(self) -> None:
        self._by_id: dict[str, Operation] = {}
        self._aliases: dict[str, str] = {}

    def add(self, operation: Operation) -> None:
        """Adds one operation.

        Raises ValueError for an id that is taken, or is a dotted prefix of another or has another as one: routes are made
        from ids, and such a pair could not be told apart.
        """
        for known in self._by_id:
            shorter, longer = sorted((known, operation.id), key=len)
            if longer == shorter or longer.startswith(shorter + "."):
                raise ValueError(f"operation id {operation.id!r} clashes with {known!r}")
        self._by_id[operation.id] = operation
        self._aliases.update(dict.fromkeys(operation.aliases, operation.id))

    def find(self, operation_id: str) -> Operation | None:
        """Returns the operation of that id or hidden alias; internal ones are not found."""
        found = self._by_id.get(self._aliases.get(operation_id, operation_id))
        return None if found is None or found.internal else found

    def get(self, operation_id: str) -> Operation:
        """Returns the operation of that id, internal ones included; KeyError when there is none."""
        return self._by_id[operation_id]

    def __iter__(self) -> Iterator[Operation]:
        return (self._by_id[key] for key in sorted(self._by_id))

    def __len__(self) -> int:
        return len(self._by_id)


def load(package: str) -> Registry:
    """Returns a registry of every operation declared in `operations` modules below the given package."""
    registry = Registry()
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, prefix=f"{package}."):
        if "operations" in found.name.split("."):
            for declared in _declared_in(importlib.import_module(found.name)):
                registry.add(declared)
    return registry


def _declared_in(module: ModuleType) -> Iterator[Operation]:
    for value in vars(module).values():
        declared = getattr(value, OPERATION_ATTRIBUTE, None)
        if isinstance(declared, Operation) and value.__module__ == module.__name__:
            yield declared
