"""Imports without what they import: a fifth of our time would go to what no check has a use for."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def later(*names: str) -> Iterator[None]:
    """Within, importing these modules gives stand-ins, whose names are empty classes: right for what is only mentioned,
    and never called. Whoever imports one afterwards gets the module itself, and so does who holds a stand-in."""
    new = [name for name in names if name not in sys.modules]
    sys.modules.update({name: _Later(name) for name in new})
    try:
        yield
    finally:
        for name in new:
            del sys.modules[name]


@contextmanager
def first_used(*modules: str) -> Iterator[None]:
    """Within, the patterns of these modules are compiled when they are first used, which most never are: right where
    nothing but their methods is."""
    compiled = re.compile

    def either(*arguments: Any, **named: Any) -> Any:
        of = sys._getframe(1).f_globals["__name__"]
        return (_Pattern if of in modules else compiled)(*arguments, **named)

    re.compile = either
    try:
        yield
    finally:
        re.compile = compiled


class _Pattern:
    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.arguments = arguments, named

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        arguments, named = self.arguments
        found = getattr(re.compile(*arguments, **named), name)
        setattr(self, name, found)
        return found


class _Later(ModuleType):
    __path__: list[str] = []  # noqa: RUF012 - a package, if need be

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return "3.0.0"  # requests looks whether it knows it, and would warn
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            return type(name, (), {})
        return getattr(importlib.import_module(self.__name__), name)
