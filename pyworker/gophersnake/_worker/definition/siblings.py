"""Modules beside a node's file that have the name of a module of the standard library.

``python nodes.py`` searches the folder of the script first, so ``import secrets`` finds a
``secrets.py`` in it. Workers do the same, with two differences that keep the worker itself
intact: what the worker has imported before, or may import later, stays the standard
library's, and the file of a node hides no module.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import os
import re
import sys
from types import ModuleType
from typing import Any

LIBRARY = sys.stdlib_module_names | {"test"}
"""The names of the modules of the standard library; Python leaves out its tests."""

OWN = ("asyncio", "ctypes", "difflib", "fcntl", "json", "select", "socket", "traceback")
"""The modules of the standard library that the worker imports when it first needs them."""

LATE = (
    "gophersnake._worker.serving.sessionloop",
    "gophersnake._worker.serving.threadloop",
    "gophersnake._worker.values.faults",
    "numpy.random",
)
"""Modules of the worker and of NumPy that are imported when they are first needed, and use
others of the standard library."""

PACKAGES = ("numpy", "ml_dtypes")
"""The packages that the worker imports when it first needs them."""

MAX_FILES, MAX_SIZE = 200, 1 << 20
"""How many files are searched for imports, and the size of the largest of them."""


class Hidden(Exception):
    """A module beside a node's file would hide a package that the worker needs."""

    def __init__(self, path: str, package: str) -> None:
        """Create the error for the module's path and the name of the package."""
        super().__init__(f"{path} hides the package {package}, which the values of nodes need")


logger = logging.getLogger("gophersnake")

_kept: dict[str, str] = {}
"""The siblings that are not imported, because the worker has imported the library's module."""


def admit(folder: str, own: str) -> None:
    """Let imports find the modules in a folder before those of the standard library.

    Most folders have no module of such a name; then this reads the folder, and no more.

    Args:
        folder: the folder of the node's file.
        own: the name of that file without its suffix; it hides no module.

    Raises:
        Hidden: one of the modules would hide a package that the worker needs.
    """
    found = _modules(folder)
    for name in PACKAGES:
        if name in found:
            raise Hidden(found[name], name)
    hiding = {
        name: path
        for name, path in found.items()
        if name in LIBRARY and name != own and not _is_part_of_python(name)
    }
    if not hiding:
        return
    kept = {name: path for name, path in hiding.items() if name in sys.modules or name in OWN}
    if free := hiding.keys() - kept.keys():
        _import_own(free)
        sys.meta_path.insert(0, _Siblings(folder, free))
    _kept.update(kept)
    for name, path in kept.items():
        if _imports(found, name):
            logger.warning("%s", _explained(name, path))


def hint(error: BaseException) -> str:
    """Return a hint for an error that one module in place of another may have caused."""
    name = ""
    if isinstance(error, AttributeError):
        name = error.obj.__name__ if isinstance(error.obj, ModuleType) else ""
    elif isinstance(error, ImportError):
        name = error.name or ""
    name = name.partition(".")[0] if isinstance(name, str) else ""
    if name in _kept:
        return _explained(name, _kept[name])
    finder = next((each for each in sys.meta_path if isinstance(each, _Siblings)), None)
    if finder is None or name not in finder.names:
        return ""
    path = getattr(sys.modules.get(name), "__file__", None) or finder.folder
    return f"{path} takes the place of Python's own module {name}: rename it if that was not meant"


def _explained(name: str, path: str) -> str:
    return (
        f"{path} is not imported: the worker has imported Python's own module {name}; "
        "rename the file if the node needs it"
    )


def _modules(folder: str) -> dict[str, str]:
    """Return the modules and packages in a folder by name, with their paths."""
    found: dict[str, str] = {}
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return found
    for entry in entries:
        name, suffix = os.path.splitext(entry.name)
        package = os.path.join(entry.path, "__init__.py")
        if suffix == ".py":
            found.setdefault(name, entry.path)
        elif not suffix and name.isidentifier() and os.path.isfile(package):
            found[name] = package  # a package is found before a file of its name
    return found


def _is_part_of_python(name: str) -> bool:
    """Report whether ``python nodes.py`` would not find a file of this name either."""
    if name in sys.builtin_module_names:
        return True
    return importlib.machinery.FrozenImporter.find_spec(name) is not None


def _import_own(free: set[str]) -> None:
    """Import what the worker may need later, with the modules of the standard library.

    Modules that these imports have brought along are forgotten if a sibling has their name; the
    modules that use it keep it.
    """
    before = set(sys.modules)
    for name in (*OWN, *PACKAGES, *LATE):
        try:
            importlib.import_module(name)
        except ImportError:  # a package that is not installed
            continue
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in free:
            del sys.modules[name]


def _imports(modules: dict[str, str], name: str) -> bool:
    """Report whether one of some files imports a module."""
    pattern = re.compile(rb"^\s*(?:import|from)\s.*\b" + name.encode() + rb"\b", re.MULTILINE)
    for path in list(modules.values())[:MAX_FILES]:
        try:
            if os.path.getsize(path) <= MAX_SIZE:
                with open(path, "rb") as file:
                    if pattern.search(file.read()):
                        return True
        except OSError:
            continue
    return False


class _Siblings:
    """Finds the modules in a folder whose names those of the standard library have, too."""

    def __init__(self, folder: str, names: set[str]) -> None:
        self.folder = folder
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a sibling, ``None`` for any other module."""
        if path is not None or name not in self.names:
            return None
        return importlib.machinery.PathFinder.find_spec(name, [self.folder], target)
