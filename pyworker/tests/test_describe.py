"""The command ``describe``, as Go runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.supervisor import PACKAGE


def describe(base: Path, **question: Any) -> list[dict[str, Any]]:
    """Return the answer to a question, through a real process."""
    done = subprocess.run(
        [sys.executable, str(PACKAGE), "describe"],
        input=json.dumps({"base": str(base)} | question),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    nodes: list[dict[str, Any]] = json.loads(done.stdout)["nodes"]
    return nodes


def asked(node_type: str = "n", **more: Any) -> dict[str, Any]:
    question = {"id": "1", "python": "nodes.py", "node_type": node_type}
    return question | {"params": None, "ports": None} | more


def test_all_nodes_of_a_file_are_described(tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(
        "from gophersnake import node\n"
        "print('noise')\n"
        "import os; os.write(1, b'more noise')\n"
        "@node\ndef one(value: 'Audio', rate: int = 8000) -> str:\n    '''Do it.'''\n"
        "@node(name='Zwei \\udcff')\nclass Two:\n    async def process(self, value): yield 1\n"
    )
    one, two = describe(tmp_path, file="nodes.py")
    assert one["problems"] == []
    assert one["description"]["doc"] == "Do it."
    assert one["description"]["inputs"][0]["annotation"] == "Audio"
    assert one["description"]["line"] == 4
    assert two["description"]["name"] == "Zwei \udcff"
    assert (two["description"]["kind"], two["description"]["node_kind"]) == (
        "class",
        "async generator",
    )


def test_the_nodes_of_a_pipeline_are_described_with_their_problems(tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text(
        "from gophersnake import node\n@node\ndef n(value, rate: int = 1): ...\n"
    )
    (tmp_path / "leaving.py").write_text("raise SystemExit(3)")
    fine, wrong, missing, leaving = describe(
        tmp_path,
        nodes=[
            asked(),
            asked(params={"rate": "x", "rat": 1}),
            asked("m"),
            asked(python="leaving.py"),
        ],
    )
    assert fine["problems"] == []
    assert [problem["kind"] for problem in wrong["problems"]] == ["manifest", "manifest"]
    assert wrong["description"]["name"] == "n"
    assert missing["description"] is None
    assert "has no node 'm'" in missing["problems"][0]["message"]
    assert leaving["problems"][0]["class"] == "SystemExit"


@pytest.mark.parametrize(
    "rest",
    [
        "import threading\nthreading.Thread(target=threading.Event().wait).start()",
        "import sys\nsys.stdout.close()\nsys.stdout = None",
        "import sys\nassert sys.stdin.read() == ''",
    ],
)
def test_threads_and_streams_of_a_module_do_not_prevent_the_response(
    tmp_path: Path, rest: str
) -> None:
    (tmp_path / "nodes.py").write_text(
        f"from gophersnake import node\n@node\ndef n(value): ...\n{rest}\n"
    )
    assert describe(tmp_path, file="nodes.py")[0]["description"]["name"] == "n"


def test_a_file_that_cannot_be_imported_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "nodes.py").write_text("import none_such_z")
    (answer,) = describe(tmp_path, file="nodes.py")
    assert answer["problems"][0]["hint"].startswith("add the package that provides 'none_such_z'")
