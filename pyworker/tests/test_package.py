"""The package as it is built, installed and started."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
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


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist, and the wheel from it as an index's user would; return their folder."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("built")
    made = python("-m", "hatchling", "build", "-t", "sdist", "-d", str(folder), cwd=PACKAGE)
    assert made.returncode == 0, made.stderr
    (sdist,) = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    made = python("-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=source)
    assert made.returncode == 0, made.stderr
    return folder


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """Return the path of the wheel."""
    (wheel,) = built.glob("*.whl")
    return wheel


def test_the_wheel_holds_all_modules_and_no_tests(wheel: Path) -> None:
    assert wheel.name == f"gophersnake-{gophersnake.__version__}-py3-none-any.whl"
    want = {str(path.relative_to(PACKAGE)) for path in (PACKAGE / "gophersnake").rglob("*.py")} | {
        "gophersnake/py.typed"
    }
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == want


def test_the_sdist_holds_the_tests(built: Path) -> None:
    (source,) = (path for path in built.iterdir() if path.is_dir())
    assert (source / "tests" / "test_package.py").is_file()
    assert (source / "LICENSE").is_file()


def test_the_license_is_that_of_the_repository() -> None:
    repository = PACKAGE.parent / "LICENSE"
    if not repository.is_file():
        pytest.skip("these tests are not in the repository")
    assert (PACKAGE / "LICENSE").read_bytes() == repository.read_bytes()


def interpreter(version: str) -> str:
    """Return the path of an interpreter of a version, or skip the test."""
    name = f"python{version}"
    found: list[object] = [
        shutil.which(name),
        *Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}"),
    ]
    for each in map(str, filter(None, found)):  # one in the search path may be pyenv's, which fails
        if subprocess.run([each, "-c", ""], check=False, capture_output=True).returncode == 0:
            return each
    pytest.skip(f"there is no Python {version}")


INSTALLED = """
import importlib.metadata as metadata, pathlib, sys
import gophersnake, gophersnake.testing, msgpack, msgspec

assert sys.prefix in gophersnake.__file__, gophersnake.__file__
assert sys.version.startswith(sys.argv[1])
found = metadata.metadata("gophersnake")
assert found["License-Expression"] == "Apache-2.0"
assert "pipeline" in found.get_payload(), "the README is the description"
names = {path.name for path in metadata.files("gophersnake")}
assert {"LICENSE", "py.typed"} <= names
"""

TESTS = """
import dataclasses, datetime
import pytest
from gophersnake import node
from gophersnake.testing import NodeError

@dataclasses.dataclass
class Item:
    price: float
    day: datetime.date

@node
def next_day(item: Item) -> Item:
    return Item(item.price, item.day + datetime.timedelta(1))

def test_an_item_is_built_and_written(call_node):
    assert call_node(next_day, {"price": 1, "day": "2024-02-28"}) == {
        "price": 1.0, "day": "2024-02-29"
    }

def test_a_wrong_item_is_refused(call_node):
    with pytest.raises(NodeError, match="expected a number"):
        call_node(next_day, {"price": "x", "day": "2024-02-28"})
"""


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_installed_wheel_runs_tests_of_nodes(wheel: Path, tmp_path: Path, version: str) -> None:
    """The environment is clean, and has the dependencies of the wheel from the index."""
    base, uv = interpreter(version), shutil.which("uv")
    if uv is None:
        pytest.skip("there is no uv")
    venv = tmp_path / "venv"
    inside = str(venv / "bin" / "python")
    (tmp_path / "installed.py").write_text(INSTALLED, encoding="utf-8")
    (tmp_path / "test_nodes.py").write_text(TESTS, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    for command in (
        [uv, "venv", "-q", "--no-project", "--python", base, str(venv)],
        [uv, "pip", "install", "-q", "--python", inside, f"{wheel}[types]", "pytest"],
        [inside, "-W", "error", "installed.py", version],
        [inside, "-m", "pytest", "-q", "-W", "error", "test_nodes.py"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    assert "2 passed" in done.stdout


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
        "read, write = os.pipe(); os.write(write, bytes(32)); os.dup2(read, 3)  # the lifeline\n"
        f"os.environ['PLUGIN_UNIX_SOCKET_DIR'] = {str(tmp_path)!r}\n"
        "from gophersnake._worker.process.start import run; run()"
    )
    done = python("-c", code)
    assert done.returncode == 1
    assert "pip install msgpack" in done.stderr
