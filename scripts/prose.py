"""Finds habits that make prose hard to read in comments, docstrings and guides.

    python scripts/prose.py                  check all files that git knows
    python scripts/prose.py ipc README.md    check these files and folders
    python scripts/prose.py --count          print a count for each habit, and exit 0

A finding is one line of prose with one habit. Some lines are right, for instance with a
"where" that names a place. They are listed in scripts/prose-allowed.txt, one a line, as
"PATH: TEXT" with the text of the line. An entry that matches nothing is an error too, so
that the list stays short.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = ROOT / "scripts" / "prose-allowed.txt"

HABITS = {
    "where": (r"\bwhere(?:ver)?\b", "a condition is if or when; where is for places"),
    "who": (r"\b(?:who|whom|whoever)\b", "name the thing that acts: the caller, the worker"),
    "he": (r"\b(?:he|him|his)\b", "name the thing that acts: the caller, the reader"),
    "somebody": (r"\b(?:somebody|nobody|anybody)\b", "name the thing that acts"),
    "it is that": (
        r"\bit (?:is|was) (?!(?:assumed|known|said|possible|likely|clear|certain|important)\b)[^.,;:()]{1,50}\bthat\b",
        "say it directly: the reader notices, not it is the reader that notices",
    ),
    "British": (
        r"\b(?:behaviours?|colours?|favours?|honou?rs?ed|honour|(?-i:cancelled|cancelling)|labelled|serialise[ds]?"
        r"|initialise[ds]?|recognise[ds]?|normalise[ds]?|organise[ds]?|neighbours?|licence)\b",
        "American spelling",
    ),
}
"""The name of each habit, with its pattern and advice."""

PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, (pattern, _) in HABITS.items()}

GO_TOKENS = re.compile(
    r"""(?P<comment>//[^\n]*|/\*.*?\*/)|(?P<text>"(?:\\.|[^"\\\n])*"|`[^`]*`|'(?:\\.|[^'\\\n])+')""",
    re.DOTALL,
)


@dataclass(frozen=True)
class Line:
    """One line of prose."""

    path: str
    number: int
    text: str


def go_prose(path: str, source: str) -> Iterator[Line]:
    """Yield the comment lines of a Go file."""
    for token in GO_TOKENS.finditer(source):
        comment = token["comment"]
        if comment is None or comment.startswith("//go:"):
            continue
        first = source.count("\n", 0, token.start()) + 1
        for offset, text in enumerate(comment.splitlines()):
            yield Line(path, first + offset, text.strip().lstrip("/* \t"))


def python_prose(path: str, source: str) -> Iterator[Line]:
    """Yield the comments and the docstrings of a Python file, line by line."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield Line(path, token.start[0], token.string.lstrip("# "))
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Expr) or not isinstance(node.value, ast.Constant):
            continue
        if isinstance(node.value.value, str):  # a docstring, or one of an attribute
            for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                yield Line(path, number, source.splitlines()[number - 1].strip())


def markdown_prose(path: str, source: str) -> Iterator[Line]:
    """Yield the lines of a Markdown file that are not in fenced blocks."""
    fenced = False
    for number, text in enumerate(source.splitlines(), 1):
        if text.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield Line(path, number, text.strip())


READERS = {".go": go_prose, ".py": python_prose, ".md": markdown_prose}


def files(names: list[str]) -> list[Path]:
    """Return the files with prose: those named, those in named folders, or all of them."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "--", *names]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    paths = [Path(name) for name in sorted(listed.stdout.splitlines())]
    return [path for path in paths if path.suffix in READERS and (ROOT / path).exists()]


def without_code(text: str) -> str:
    """Return the text without the parts in quotation marks or backquotes."""
    return re.sub(r"`[^`]*`|\"[^\"]*\"", "", text)


def findings(paths: list[Path]) -> list[tuple[str, Line]]:
    """Return the findings in files: the name of a habit, and the line."""
    found = []
    for path in paths:
        source = (ROOT / path).read_text("utf-8")
        try:
            lines = list(READERS[path.suffix](str(path), source))
        except (SyntaxError, tokenize.TokenError):  # a file that a test needs broken
            continue
        for line in lines:
            text = without_code(line.text)
            found += [(name, line) for name, pattern in PATTERNS.items() if pattern.search(text)]
    return found


def main() -> int:
    """Check the files; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("paths", nargs="*", help="files and folders; all by default")
    parser.add_argument(
        "--count", action="store_true", help="count the findings, without the list of allowed lines"
    )
    options = parser.parse_args()

    found = findings(files(options.paths))
    if options.count:
        counts = Counter(name for name, _ in found)
        for name in HABITS:
            print(f"{counts[name]:6} {name}")
        print(f"{len(found):6} in all")
        return 0

    entries = [
        entry
        for entry in ALLOWED.read_text("utf-8").splitlines()
        if entry and not entry.startswith("#")
    ]
    unused = dict.fromkeys(entries)
    wrong = 0
    for name, line in found:
        entry = f"{line.path}: {line.text}"
        if entry in entries:
            unused.pop(entry, None)
            continue
        wrong += 1
        print(f"{line.path}:{line.number}: {name}: {line.text}\n    {HABITS[name][1]}")
    if wrong:
        print(f"reword {wrong} lines; if a line is right, add it to {ALLOWED.relative_to(ROOT)}")
    if not options.paths:
        for entry in unused:
            wrong += 1
            print(f"{ALLOWED.relative_to(ROOT)}: this entry matches nothing: {entry}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
