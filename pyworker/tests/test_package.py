"""The package as it is built, installed and started."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import gophersnake
import pytest

from tests.supervisor import PACKAGE


def python(*args: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env=os.environ | env,
    )


@pytest.mark.parametrize("how", [[str(PACKAGE)], ["-m", "gophersnake"]])
def test_a_worker_started_by_hand_explains_itself(how: list[str]) -> None:
    done = python(*how, PYTHONPATH=str(PACKAGE))
    assert done.returncode == 1
    assert "which the supervisor starts by itself" in done.stderr


def test_the_wheel_holds_all_modules(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    done = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=PACKAGE)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"gophersnake-{gophersnake.__version__}-py3-none-any.whl"
    want = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "gophersnake").rglob("*.py")} | {
        "gophersnake/py.typed"
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == want


def test_a_wheel_has_the_version_of_the_package(tmp_path: Path) -> None:
    build = "from hatchling.build import prepare_metadata_for_build_wheel as p; print(p(__import__('sys').argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)],
        cwd=PACKAGE,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == f"gophersnake-{gophersnake.__version__}.dist-info"


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    text = (PACKAGE / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert blocks
    path = tmp_path / "example.py"
    path.write_text("\n".join(blocks), encoding="utf-8")
    done = python("-W", "error", str(path), PYTHONPATH=str(PACKAGE))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_importing_the_package_is_light() -> None:
    """Modules that only some nodes need are not imported at the start."""
    code = "import sys, gophersnake._worker.process.worker; print(*sys.modules)"
    loaded = set(python("-c", code, PYTHONPATH=str(PACKAGE)).stdout.split())
    assert "gophersnake._worker.process.worker" in loaded
    assert not loaded & {"asyncio", "numpy", "difflib", "json", "platform", "heapq"}
    assert not loaded & {"gophersnake._worker.values.faults"}


def test_the_worker_needs_msgpack_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "msgpack.py").write_text("raise ImportError('No module named msgpack')")
    code = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(PACKAGE)!r}]\n"
        "import os; os.dup2(os.open(os.devnull, os.O_RDWR), 4)\n"
        "from gophersnake._worker.process.start import run; run()"
    )
    done = python("-c", code)
    assert done.returncode == 1
    assert "pip install msgpack" in done.stderr
