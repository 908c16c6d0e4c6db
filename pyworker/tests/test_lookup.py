"""The lookup of a node's code."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gophersnake._worker.definition.lookup import NodeFault, load, load_module, nodes_of

from tests.conftest import Serve
from tests.supervisor import Failed


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Forget what a test imports."""
    modules, path = set(sys.modules), list(sys.path)
    yield
    for name in set(sys.modules) - modules:
        if not name.startswith(("numpy", "_pytest")):
            del sys.modules[name]
    sys.path[:] = path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "speech_nodes.py").write_text(
        "from gophersnake import node\n"
        "@node\ndef hello(x): return x\n"
        "@node(name='Other Name')\nclass Other:\n    def process(self, x): return x\n"
        "class Outer:\n    class Inner:\n        def process(self, x): ...\n"
        "    @staticmethod\n    def static(x): return x\n"
        "class NoProcess: ...\n"
        "def plain(x): ...\n"
        "number = 5\n"
    )
    (tmp_path / "speech_package").mkdir()
    (tmp_path / "speech_package" / "__init__.py").write_text("")
    (tmp_path / "speech_package" / "inner.py").write_text("from .near import n\n")
    (tmp_path / "speech_package" / "near.py").write_text("def n(x): return x\n")
    return tmp_path


@pytest.mark.parametrize(
    ("python", "node_type", "name"),
    [
        ("speech_nodes.py", "hello", "hello"),
        ("speech_nodes.py", "Other Name", "Other"),
        ("speech_nodes", "hello", "hello"),
        ("./speech_nodes.py:plain", "x", "plain"),
        ("speech_nodes:plain", "x", "plain"),
        ("speech_nodes:Outer.Inner", "x", "Inner"),
        ("speech_nodes.py:Outer.static", "x", "static"),
        ("speech_package.inner:n", "x", "n"),
    ],
)
def test_a_node_is_found(base: Path, python: str, node_type: str, name: str) -> None:
    assert load(str(base), python, node_type).__name__ == name


@pytest.mark.parametrize(
    ("python", "says", "hint"),
    [
        ("speech_nodes.py:helo", "has no helo; did you mean hello?", ""),
        ("speech_node.py", "did you mean speech_nodes.py?", ""),
        ("nowhere/speech.py", "there is no folder", ""),
        ("speech_package/inner", "did you mean inner.py?", ""),
        ("speech_nodes.py:number", "is not a function or class, but a int", ""),
        ("speech_nodes.py:NoProcess", "has no method process", "give it process"),
        ("speech_nodes.py:Outer.x.y", "has no Outer.x.y", ""),
        ("nothing_of_this_name:x", "there is no Python module", "is it in the requirements?"),
        ("speech_nodes.inner:x", "there is no Python module", ""),
        ("../x:y", "no Python file", ""),
        ("not a module:x", "is not a Python module", "path.py:Object"),
        (".relative:x", "is not a Python module", ""),
        ("", "is not a Python module", ""),
    ],
)
def test_missing_code_is_named_with_a_suggestion(
    base: Path, python: str, says: str, hint: str
) -> None:
    with pytest.raises(NodeFault) as fault:
        load(str(base), python, "hello")
    assert says in str(fault.value)
    assert hint in fault.value.hint


@pytest.mark.parametrize(
    ("node_type", "says"),
    [("helo", "did you mean hello?"), ("plain", "plain in speech_nodes.py is not a node")],
)
def test_a_node_type_that_is_missing_is_named(base: Path, node_type: str, says: str) -> None:
    with pytest.raises(NodeFault, match=says):
        load(str(base), "speech_nodes.py", node_type)


def test_a_module_without_nodes_has_a_hint(tmp_path: Path) -> None:
    (tmp_path / "empty_one.py").write_text("")
    with pytest.raises(NodeFault, match="it has none: put @node on a function or class"):
        load(str(tmp_path), "empty_one.py", "x")


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.py:b").mkdir()
    (tmp_path / "a.py:b" / "colon_nodes.py").write_text("def x(v): ...")
    assert load(str(tmp_path), "a.py:b/colon_nodes.py:x", "x")
    with pytest.raises(NodeFault, match=r"x in a[.]py:b/colon_nodes[.]py is not a node"):
        load(str(tmp_path), "a.py:b/colon_nodes.py", "x")


def test_a_module_is_imported_once_by_file_and_by_name(base: Path) -> None:
    by_file = load_module(str(base), "speech_nodes.py")
    assert load_module(str(base), "speech_nodes.py") is by_file
    assert load_module(str(base), "speech_nodes") is by_file


@pytest.mark.parametrize("name", ["queue.py", "json.py", "my-node.py", "pytest.py", "class.py"])
def test_a_file_may_have_the_name_of_another_module(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(
        "import asyncio, dataclasses, queue, json, pickle\n"
        "assert queue.SimpleQueue and json.dumps  # the standard library's\n"
        "@dataclasses.dataclass\nclass Kept:\n    a: int\n"
        "def n(x): return pickle.loads(pickle.dumps(Kept(x)))\n"
    )
    node = load(str(tmp_path), f"{name}:n", "n")
    assert node(3).a == 3
    assert load(str(tmp_path), f"{name}:n", "n") is node
    module = node.__module__
    del sys.modules[module]
    assert load(str(tmp_path), f"{name}:n", "n").__module__ == module
    assert sys.modules["json"].__name__ == "json"


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same_name.py").write_text(f"def n(x): return {folder!r}")
    assert load(str(tmp_path), "one/same_name.py:n", "n")(0) == "one"
    assert load(str(tmp_path), "two/same_name.py:n", "n")(0) == "two"


def test_dataclasses_and_pickle_work_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "with_classes.py").write_text(
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass(slots=True)\nclass Item:\n    a: list[int]\n"
        "def n(x): return Item([x])\n"
    )
    item = load(str(tmp_path), "with_classes.py:n", "n")(3)
    assert pickle.loads(pickle.dumps(item)) == item


def test_a_file_can_import_the_modules_beside_it(tmp_path: Path) -> None:
    (tmp_path / "beside_it.py").write_text("value = 7")
    (tmp_path / "importing.py").write_text("import beside_it\ndef n(x): return beside_it.value")
    assert load(str(tmp_path), "importing.py:n", "n")(0) == 7


@pytest.mark.parametrize(
    "code", ["raise OSError('x')", "raise SystemExit(3)", "import none_such_x"]
)
def test_an_error_of_an_import_is_raised_and_the_import_can_be_repeated(
    tmp_path: Path, code: str
) -> None:
    (tmp_path / "failing_one.py").write_text(code)
    for _ in range(2):
        with pytest.raises((OSError, SystemExit, ModuleNotFoundError)):
            load(str(tmp_path), "failing_one.py:n", "n")
    (tmp_path / "importer.py").write_text("import none_such_y")
    with pytest.raises(ModuleNotFoundError, match="none_such_y"):
        load(str(tmp_path), "importer:n", "n")


def test_objects_that_raise_when_looked_at_are_no_nodes() -> None:
    class Proxy:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError("outside of a context")

    module = type(sys)("made")
    module.proxy = Proxy()  # type: ignore[attr-defined]
    module.number = 5  # type: ignore[attr-defined]
    assert nodes_of(module) == {}


def test_a_worker_runs_beside_files_named_like_its_own_imports(
    serve: Serve, tmp_path: Path
) -> None:
    for name in ("difflib", "traceback", "asyncio", "linecache", "inspect", "json", "logging"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('the wrong one')")
    worker = serve(
        "from gophersnake import Json\nasync def n(value): return 1 / 0 if value else [Json('1')]",
        python="nodes.py:n",
    )
    assert worker.call(0)
    with pytest.raises(Failed, match="ZeroDivisionError"):
        worker.call(1)
