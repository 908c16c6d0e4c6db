"""Runs the commands of Markdown files and compares their output with the files.

    python scripts/readme.py README.md runner/docs/*.md

The script copies the repository to a temporary folder and runs the commands there, one
after the other. The copy has the files that a clone would have, so that the commands
neither change the repository nor depend on untracked files that git ignores. All files
share the copy: what a command of one file creates is there for the next file.

In a block fenced as `console`, a line that begins with `$ ` is a command. A `\\` at its
end continues it on the next line. The lines that follow are the expected output, including
standard error, in which `...` matches any text. A command without output may print
anything. A block fenced as `go` with a `package main` is run as a program in the module.

A comment before a block changes how the script treats it:

    <!-- readme: file words/nodes.py -->    write the block to this file
    <!-- readme: output -->                 it is the output of the preceding program
    <!-- readme: exit 5 -->                 its last command exits with this code
    <!-- readme: skip, because ... -->      ignore the block
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

TIMEOUT = 900
"""Seconds that a command may take. It may have to build a Python environment first."""


@dataclass
class Step:
    """A step of a guide: a file to write, or a program or a command to run."""

    line: int
    text: str
    file: str | None = None
    program: bool = False
    output: list[str] | None = None
    exit: int = 0

    @property
    def title(self) -> str:
        """The name of the step in messages."""
        if self.file:
            return f"write {self.file}"
        return "run the program" if self.program else self.text.splitlines()[0]


@dataclass
class Block:
    """A fenced block, with the comment before it."""

    line: int
    language: str
    note: str
    rows: list[str] = field(default_factory=list)

    def says(self, pattern: str) -> str | None:
        """Return what the group of the pattern matches in the comment, if it matches."""
        found = re.search(rf"readme: {pattern}", self.note)
        return found[1] if found else None


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of a Markdown text."""
    found: list[Block] = []
    inside: Block | None = None
    note = ""
    for number, row in enumerate(text.splitlines(), 1):
        fence = re.match(r"```(\w*)", row)
        if fence and inside is None:
            inside, note = Block(number, fence[1], note), ""
        elif fence and inside is not None:
            found.append(inside)
            inside = None
        elif inside is not None:
            inside.rows.append(row)
        elif row.strip():
            note = row if row.startswith("<!-- readme:") else ""
    return found


def steps(text: str) -> list[Step]:
    """Return the steps of a Markdown text, in its order."""
    found: list[Step] = []
    for block in blocks(text):
        content = "\n".join(block.rows) + "\n"
        if block.says("(skip)"):
            continue
        if name := block.says(r"file (\S+)"):
            found.append(Step(block.line, content, file=name))
        elif block.says("(output)"):
            found[-1].output = block.rows
        elif block.language == "go" and "package main" in block.rows:
            found.append(Step(block.line, content, program=True))
        elif block.language == "console":
            commands = console(block)
            if commands and (code := block.says(r"exit (\d+)")):
                commands[-1].exit = int(code)
            found += commands
    return found


def console(block: Block) -> list[Step]:
    """Return the commands of a console block, each with its output."""
    found: list[Step] = []
    for number, row in enumerate(block.rows, block.line + 1):
        if row.startswith("$ "):
            found.append(Step(number, row[2:]))
        elif not found:
            raise SystemExit(f"line {number}: output without a command; commands begin with `$ `")
        elif found[-1].output is None and found[-1].text.endswith("\\"):
            found[-1].text += "\n" + row
        else:
            found[-1].output = [*(found[-1].output or []), row]
    for step in found:
        if step.output is not None and not any(row.strip() for row in step.output):
            step.output = None
    return found


def matches(output: list[str], printed: str) -> bool:
    """Report whether a command printed the expected output, ignoring trailing blanks."""
    rows = [re.escape(row.rstrip()).replace(r"\.\.\.", r".*?") for row in output]
    wanted = r"\s*" + r"[ \t]*\n".join(rows) + r"\s*"
    return re.fullmatch(wanted, printed, re.DOTALL) is not None


def perform(step: Step, root: Path) -> str | None:
    """Run one step in a folder; return what failed, or None."""
    if step.file:
        path = root / step.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step.text)
        return None
    if not step.program:
        return check(step, ["bash", "-c", step.text], root)
    folder = Path(tempfile.mkdtemp(prefix="program-", dir=root))
    (folder / "main.go").write_text(step.text)
    return check(step, ["go", "run", f"./{folder.name}"], root)


def check(step: Step, argv: list[str], root: Path) -> str | None:
    """Run a command in a folder; return how it differs from what the file shows, or None."""
    process = subprocess.Popen(
        argv,
        cwd=root,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # its children can be killed with it
    )
    try:
        printed, _ = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        printed, _ = process.communicate()
        return f"did not end within {TIMEOUT} s; it had printed:\n{printed}"
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode != step.exit:
        return f"exited with {process.returncode}, not {step.exit}:\n{printed}"
    if step.output is not None and not matches(step.output, printed):
        return f"printed\n{printed}\ninstead of\n" + "\n".join(step.output)
    return None


def clone(repository: Path, scratch: Path) -> None:
    """Copy the files that git tracks or does not ignore, with their current content."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"],
        cwd=repository,
        stdout=subprocess.PIPE,
        check=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if not (repository / name).is_file():
            continue  # deleted, but still in the index
        target = scratch / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(repository / name, target)


def walk(path: Path, root: Path) -> tuple[int, int]:
    """Run the steps of one file in a folder; return the numbers of steps and of failures."""
    ran = failures = 0
    for step in steps(path.read_text()):
        if re.search(r"scripts/test\b", step.text) and not step.file:
            continue  # it runs this script itself
        title = f"{path.name}:{step.line}: {step.title}"
        print(title, flush=True)
        ran += 1
        if wrong := perform(step, root):
            failures += 1
            print(f"{title}\n{wrong}", file=sys.stderr, flush=True)
    return ran, failures


def main() -> int:
    """Run the steps of all files; return the exit code."""
    ran = failures = 0
    with tempfile.TemporaryDirectory(prefix="readme-") as folder:
        scratch = Path(folder).resolve()
        clone(Path(__file__).resolve().parent.parent, scratch)
        for name in sys.argv[1:] or ["README.md"]:
            more, wrong = walk(Path(name), scratch)
            ran += more
            failures += wrong
    print(f"{ran - failures} passed, {failures} failed")
    return 1 if failures or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
