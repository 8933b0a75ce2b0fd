"""Import one module of a package whose own `__init__` imports all the others.

ccxt's brings a hundred exchanges along (32 MB) and kiteconnect's Twisted (20 MB), in processes that
speak to one exchange and hold no ticker open. The package stands in for itself until somebody asks
it for more than modules; then its `__init__` runs after all, so nobody else sees a difference.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from importlib import import_module
from types import ModuleType
from typing import Any

_LOCK = threading.RLock()


class _Package(ModuleType):
    """A package that runs its own `__init__` only when something in it is missed."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        # Python's own questions, like __path__ or __all__, are no reason.
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(name)
        with _LOCK:
            if type(self) is _Package:
                self.__class__ = ModuleType  # type: ignore[assignment]  # as Python allows for modules
                spec.loader.exec_module(self)
        return getattr(self, name)


def module(name: str) -> Any:
    """Return a module of a package, imported without the rest; raise ImportError for none."""
    package = name.partition(".")[0]
    with _LOCK:
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            if spec is None:
                raise ModuleNotFoundError(f"there is no package {package}", name=package)
            made = importlib.util.module_from_spec(spec)
            made.__class__ = _Package
            sys.modules[package] = made
    return import_module(name)
