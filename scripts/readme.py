"""Runs the commands of a Markdown file and holds their output against it.

    python scripts/readme.py README.md

In a block fenced as `console`, a line that begins with `$ ` is a command and the
lines that follow it are its output, standard error included; `...` stands for
anything. Where no output is shown, none is asked for. The comment
`<!-- readme: exit 5 -->` before a block says how its last command exits; the
comment `<!-- readme: skip, because … -->` leaves the block out. A block fenced
as `go` that holds a `package main` is run as a program. All blocks share one
copy of nothing: commands run in the repository, in the order of the file.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Command:
    line: int
    text: str
    output: list[str] = field(default_factory=list)
    exit: int = 0


def commands(text: str) -> list[Command]:
    found: list[Command] = []
    note = ""
    language: str | None = None
    block: list[Command] = []
    program: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"```(\w*)", line)
        if fence and language is None:
            language, block, program = fence[1], [], []
        elif fence:
            if language == "go" and any(row.startswith("package main") for row in program):
                block = [Command(number - len(program), "\n".join(program) + "\n")]
            if block and (code := re.search(r"readme: exit (\d+)", note)):
                block[-1].exit = int(code[1])
            if "readme: skip" not in note:
                found += block
            language, note = None, ""
        elif language == "console" and line.startswith("$ "):
            block.append(Command(number, line[2:]))
        elif language == "console" and block and block[-1].text.endswith("\\"):
            block[-1].text += "\n" + line
        elif language == "console" and block:
            block[-1].output.append(line)
        elif language == "go":
            program.append(line)
        elif language is None and line.strip():
            note = line if line.startswith("<!-- readme:") else ""
    return found


def pattern(output: list[str]) -> re.Pattern[str]:
    rows = [re.escape(row.rstrip()).replace(r"\.\.\.", r".*?") for row in output]
    return re.compile(r"\s*" + r"[ \t]*\n".join(rows) + r"\s*", re.DOTALL)


def run(command: Command, root: Path) -> str | None:
    """Runs one command; returns what is wrong, if anything."""
    if command.text.startswith("package "):
        with tempfile.TemporaryDirectory(dir=root, prefix=".readme-") as folder:
            (Path(folder) / "main.go").write_text(command.text)
            return check(command, ["go", "run", f"./{Path(folder).name}"], root)
    return check(command, ["bash", "-c", command.text], root)


def check(command: Command, argv: list[str], root: Path) -> str | None:
    done = subprocess.run(
        argv,
        cwd=root,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1200,
    )
    if done.returncode != command.exit:
        return f"exited with {done.returncode}, not {command.exit}:\n{done.stdout}"
    if command.output and not pattern(command.output).fullmatch(done.stdout):
        return f"printed\n{done.stdout}\nwhere the file says\n" + "\n".join(command.output)
    return None


def main() -> int:
    path = Path(sys.argv[1]).resolve()
    failures = 0
    ran = 0
    for command in commands(path.read_text()):
        shown = command.text.splitlines()[0]
        if re.search(r"scripts/test\b", command.text):
            continue  # this is running in it
        print(f"{path.name}:{command.line}: {shown}", flush=True)
        ran += 1
        if wrong := run(command, path.parent):
            failures += 1
            print(f"{path.name}:{command.line}: {shown}\n{wrong}", file=sys.stderr, flush=True)
    print(f"{ran - failures} passed, {failures} failed")
    return 1 if failures or not ran else 0


if __name__ == "__main__":
    sys.exit(main())
