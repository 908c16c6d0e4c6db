"""Print the functions of Python files as JSON: file, name, first line and length.

A function's length includes its docstring, but not its decorators. Its first line is that
of the first decorator, as in a code object.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path


def functions(body: ast.AST, file: str, prefix: str) -> list[dict[str, object]]:
    """Return the functions in a module, class or function, nested ones included."""
    found: list[dict[str, object]] = []
    for child in ast.iter_child_nodes(body):
        if isinstance(child, ast.ClassDef):
            found += functions(child, file, prefix + child.name + ".")
        elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            name = prefix + child.name
            first = min([child.lineno, *(each.lineno for each in child.decorator_list)])
            length = (child.end_lineno or child.lineno) - child.lineno + 1
            found.append({"File": file, "Name": name, "Line": first, "Lines": length})
            found += functions(child, file, name + ".")
        else:
            found += functions(child, file, prefix)
    return found


if __name__ == "__main__":
    rows = []
    for line in sys.stdin:
        path = line.strip()
        rows += functions(ast.parse(Path(path).read_text()), path, "")
    json.dump(rows, sys.stdout)
