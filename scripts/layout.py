"""Checks that folders, files and functions are of a size that one can read.

    python scripts/layout.py                   check all files that git knows

A folder has at most 20 source files, a file 30 to 500 lines, and a function at most 70 without
its docstring. Tests, test data and generated files do not count. Files may be short if they only
hold what has to be in a file of its own: see SHORT.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

MOST_FILES = 20
LEAST_LINES, MOST_LINES = 30, 500
MOST_FUNCTION_LINES = 70

IGNORED = re.compile(r"_test\.go$|(^|/)test_[^/]*\.py$|(^|/)conftest\.py$|(^|/)(testdata|tests)/")
"""Files that do not count."""

SHORT = re.compile(
    r"(^|/)(__init__|__main__)\.py$"
    r"|(^|/)(main|doc)\.go$"
    r"|_(linux|darwin|other)\.go$"  # a platform's part
    r"|^cmd/gophersnake/examples/"
    r"|^scripts/(bench|chaos)/python/"  # nodes, each for one measurement
    r"|^pyworker/gophersnake/pytest_plugin\.py$"  # pytest loads it by its name
)
"""Files that may have less than LEAST_LINES lines."""

GO_FUNCTION = re.compile(r"^func [^\n]*\{\n.*?^\}", re.MULTILINE | re.DOTALL)


def sources() -> list[str]:
    """Return the paths of the source files that count."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", "*.go", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return [
        path
        for path in sorted(listed.stdout.splitlines())
        if not IGNORED.search(path) and (ROOT / path).exists()
    ]


def functions(path: str, source: str) -> Iterator[tuple[int, int]]:
    """Yield the first line and the number of lines of each function of a file."""
    if path.endswith(".go"):
        for match in GO_FUNCTION.finditer(source):
            yield source.count("\n", 0, match.start()) + 1, match[0].count("\n") + 1
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            yield node.lineno, length - (text.count("\n") + 1 if text else 0)


def findings(paths: list[str]) -> Iterator[str]:
    """Yield what is too large or too small."""
    folders: Counter[str] = Counter()
    for path in paths:
        source = (ROOT / path).read_text("utf-8")
        if re.search(r"^// Code generated .* DO NOT EDIT\.$", source, re.MULTILINE):
            continue
        folders[str(Path(path).parent)] += 1
        lines = source.count("\n")
        if lines > MOST_LINES:
            yield f"{path}: {lines} lines; divide it, so that each file has at most {MOST_LINES}"
        if lines < LEAST_LINES and not SHORT.search(path):
            yield f"{path}: {lines} lines; unite it with a file of its subject"
        for first, length in functions(path, source):
            if length > MOST_FUNCTION_LINES:
                yield (
                    f"{path}:{first}: a function of {length} lines; "
                    f"divide it, so that each has at most {MOST_FUNCTION_LINES}"
                )
    for folder, count in sorted(folders.items()):
        if count > MOST_FILES:
            yield f"{folder}: {count} source files; a folder has at most {MOST_FILES}"


def main() -> int:
    """Check all files; return the exit code."""
    found = list(findings(sources()))
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
