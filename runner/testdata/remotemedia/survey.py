"""Surveys the node types of the installed package remotemedia: which of them can be set up."""

import ast
import importlib
import importlib.util
import logging
from pathlib import Path

from gophersnake import node
from gophersnake.testing import NodeError, open_node

BASES = {"Node", "MultiprocessNode"}


def classes(folder):
    """Yield module, class and base of each class that has process, or inherits it."""
    for path in sorted(folder.rglob("*.py")):
        module = ".".join(("remotemedia", *path.relative_to(folder).with_suffix("").parts))
        if "tests" in path.parts or "_vendor" in path.parts or ".core." in module:
            continue
        for each in ast.parse(path.read_text()).body:
            if not isinstance(each, ast.ClassDef) or each.name.startswith("_"):
                continue
            bases = {ast.unparse(base) for base in each.bases}
            has = any(getattr(part, "name", "") == "process" for part in each.body)
            named = each.name.endswith("Node") and bases
            if (
                has
                or named
                or any(base.endswith("Node") or base.endswith("Source") for base in bases)
            ):
                yield module, each.name, next(iter(bases & BASES), "" if not bases else min(bases))


def form(target):
    """Return how process takes and returns items."""
    from gophersnake._worker.adapters.remotemedia import Form

    found = Form(target, "")
    kind = "async " * (found.is_async) + ("generator" if found.is_generator else "")
    import inspect

    if inspect.isgeneratorfunction(target.process):
        kind = "generator"
    takes = ", ".join(p.name for p in found.parameters)
    return f"{kind.strip() or 'value'} ({takes})"


@node
def survey(params: dict) -> list[dict]:
    """Set up each class of the package once, with the params given for it."""
    logging.disable(logging.CRITICAL)
    folder = Path(importlib.util.find_spec("remotemedia.core").origin).parent.parent
    return [row(*each, params) for each in classes(folder)]


def row(module, name, base, params):
    """Return what is found of one class."""
    found = {"module": module, "name": name, "base": base, "form": "", "error": ""}
    try:
        target = getattr(importlib.import_module(module), name)
        found["form"] = form(target)
        with open_node(target, **params.get(f"{module}.{name}", params.get(name, {}))):
            pass
    except NodeError as error:
        found["error"] = str(error).splitlines()[0]
    except BaseException as error:
        found["error"] = f"import: {type(error).__name__}: {error}".splitlines()[0]
    return found
