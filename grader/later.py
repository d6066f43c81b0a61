"""Imports without what they import: a fifth of our time would go to modules that no check has a use for."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def later(*names: str) -> Iterator[None]:
    """Within, importing these modules gives stand-ins, whose names are empty classes: right for what is only mentioned
    in annotations. Whoever imports one afterwards gets the module itself, and so does who holds a stand-in."""
    new = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Later(name) for name in new})
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


class _Later(ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - a package, if need be

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return importlib.metadata.version(self.__name__)
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return type(name, (), {})
        return getattr(importlib.import_module(self.__name__), name)
