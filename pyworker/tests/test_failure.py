"""The bodies of error frames."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from typing import Any

import msgpack
import pytest
from gophersnake import Cancelled, Permanent, Transient
from gophersnake._worker.definition.lookup import NodeFault
from gophersnake._worker.serving import failure
from gophersnake._worker.values.format import ValueFault
from gophersnake.nodes import MAX_NAME

from tests.conftest import Serve
from tests.supervisor import Failed


def body_of(raising: Callable[[], Any], stage: str = "call") -> dict[str, Any]:
    """Return the body of the error frame of an exception, packed and unpacked."""
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        raising()
    body = failure.remote_error(caught.value, stage)
    crossed: dict[str, Any] = msgpack.unpackb(msgpack.packb(body, unicode_errors="replace"))
    return crossed


def raises(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def raising() -> None:
        raise error

    return raising


def test_chained_exceptions_are_reported_with_their_relation() -> None:
    def chain() -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904
        except ValueError as error:
            raise RuntimeError("third") from error

    body = body_of(chain)
    assert (body["class"], body["message"]) == ("RuntimeError", "third")
    cause = body["cause"]
    assert (cause["class"], cause["relation"]) == ("ValueError", "cause")
    assert (cause["cause"]["class"], cause["cause"]["relation"]) == ("KeyError", "context")
    assert "cause" not in cause["cause"]
    assert "The above exception was the direct cause" in body["text"]


def test_exceptions_that_the_node_declares_as_permanent_are_not_retried() -> None:
    declared = (ValueError, KeyError)
    for error, stage, says in [
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "no"), "call", False),
        (KeyError("x"), "finish", False),
        (KeyError("x"), "setup", None),  # it is not about an input
        (KeyError("x"), "begin", None),
        (TypeError("x"), "call", None),
        (Transient("x"), "call", True),
    ]:
        body = failure.remote_error(error, stage, declared)
        assert body.get("retryable") is says, (error, stage)
    assert "retryable" not in failure.remote_error(KeyError("x"), "call")


class Picky(type):
    """A metaclass whose classes do not say what they inherit from."""

    def __getattribute__(cls, name: str) -> Any:
        if name == "__mro__":
            raise RuntimeError("no")
        return super().__getattribute__(name)


def test_the_body_names_the_classes_that_an_exception_inherits_from() -> None:
    body = body_of(lambda: json.loads("{"))
    assert body["class"] == "json.decoder.JSONDecodeError"
    assert body["bases"] == ["ValueError", "Exception", "BaseException"]
    deep: type[Exception] = Exception
    for _ in range(2 * failure.MAX_BASES):
        deep = type("n" * 5000, (deep,), {})
    bases = body_of(raises(deep))["bases"]
    assert len(bases) == failure.MAX_BASES
    assert {len(name) for name in bases} == {MAX_NAME}
    hostile: Any = Picky("hostile", (Exception,), {})
    assert body_of(raises(hostile))["bases"] == []


def test_a_suppressed_context_is_left_out() -> None:
    def chain() -> None:
        try:
            raise KeyError
        except KeyError:
            raise ValueError from None

    assert "cause" not in body_of(chain)


def test_a_chain_that_is_a_ring_or_endless_has_an_end() -> None:
    one, other = ValueError("one"), KeyError("other")
    one.__cause__, other.__cause__ = other, one
    assert "cause" not in body_of(raises(one))["cause"]
    error = last = ValueError("0")
    for i in range(1000):
        last.__cause__ = ValueError(str(i))
        last = last.__cause__
    body, length = body_of(raises(error)), 0
    while "cause" in body:
        body, length = body["cause"], length + 1
    assert length == failure.MAX_CHAIN


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes are of Python 3.11")
def test_notes_are_reported() -> None:
    error = ValueError("x")
    error.__notes__ = ["the rate came from the input", 5]  # type: ignore[attr-defined,unused-ignore]
    assert body_of(raises(error))["notes"] == ["the rate came from the input", "5"]


@pytest.mark.parametrize("notes", [5, None, [object], iter([])])
def test_notes_of_any_sort_do_no_harm(notes: Any) -> None:
    error = ValueError("x")
    error.__notes__ = notes  # type: ignore[attr-defined,unused-ignore]
    assert body_of(raises(error))["class"] == "ValueError"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="groups are of Python 3.11")
def test_the_text_of_a_group_has_its_members() -> None:
    group = ExceptionGroup("two", [ValueError("one"), KeyError("other")])  # type: ignore[name-defined,unused-ignore] # noqa: F821
    body = body_of(raises(group))
    assert body["message"] == "two (2 sub-exceptions)"
    assert "ValueError: one" in body["text"]
    assert "KeyError: 'other'" in body["text"]


def test_a_syntax_error_ends_where_it_is() -> None:
    body = body_of(lambda: compile("x = (\n", "/nodes/bad.py", "exec"))
    assert body["message"] == "'(' was never closed"
    assert body["frames"][-1] == {
        "file": "/nodes/bad.py",
        "line": 1,
        "function": "<module>",
        "source": "",
    }
    odd = SyntaxError("odd")
    odd.filename, odd.lineno = "f.py", "three"  # type: ignore[assignment]
    assert body_of(raises(odd))["frames"][-1]["line"] == 0


def test_an_exception_whose_message_cannot_be_read_is_reported() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    class Wrong(Exception):
        def __str__(self) -> str:
            return 5  # type: ignore[return-value] # noqa: PLE0307

    assert "RuntimeError in __str__" in body_of(raises(Mute))["message"]
    assert "TypeError in __str__" in body_of(raises(Wrong))["message"]
    assert body_of(raises(Mute))["class"].endswith("Mute")


def test_a_long_message_is_shortened() -> None:
    body = body_of(raises(ValueError("x" * 1_000_000)))
    assert body["message"].endswith("… (1000000 characters)")
    assert len(body["text"]) < 2 * failure.MAX_TEXT


def test_a_recursion_error_is_shortened_to_its_beginning_and_end() -> None:
    def again() -> None:
        again()

    body = body_of(again)
    assert body["class"] == "RecursionError"
    assert len(body["frames"]) <= failure.MAX_FRAMES
    assert body["frames"][0]["function"] == "body_of"
    assert body["frames"][-1]["function"] == "again"


def test_a_long_source_line_is_cut(tmp_path: Any) -> None:
    path = tmp_path / "long.py"
    path.write_text("raise ValueError(0 * " + "1" * 3000 + ")")
    body = body_of(lambda: exec(compile(path.read_text(), str(path), "exec")))
    assert len(body["frames"][-1]["source"]) == failure.MAX_LINE


def test_the_workers_own_frames_are_left_out() -> None:
    from gophersnake._worker.definition.lookup import load_module

    body = body_of(lambda: load_module("/nowhere", "json.nothing_like_it_x"), "import")
    assert body["kind"] == "manifest"
    trace = None
    try:
        compile("", "", "neither")
    except ValueError as error:
        trace = error.__traceback__
    assert failure.own(trace) is trace
    assert failure.own(None) is None


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (ValueError("x"), {"kind": "execution"}),
        (KeyboardInterrupt(), {"kind": "execution", "class": "KeyboardInterrupt"}),
        (GeneratorExit(), {"kind": "execution"}),
        (Cancelled("x"), {"kind": "canceled", "class": "gophersnake.Cancelled"}),
        (Permanent("x"), {"kind": "execution", "retryable": False}),
        (Transient("x"), {"retryable": True, "retry_after": None}),
        (Transient("x", retry_after=2), {"retryable": True, "retry_after": 2.0}),
        (MemoryError(), {"kind": "python_vm", "class": "MemoryError", "fatal": True}),
        (SystemExit(3), {"kind": "python_vm", "fatal": True, "exit_code": 3}),
        (
            ValueFault("result.a", "no"),
            {"kind": "marshaling", "path": "result.a", "message": "no"},
        ),
        (NodeFault("no", "do"), {"kind": "manifest", "message": "no", "hint": "do"}),
    ],
)
def test_the_kind_of_each_exception(error: BaseException, says: dict[str, Any]) -> None:
    body = body_of(raises(error))
    assert {key: body[key] for key in says} == says
    assert body["stage"] == "call"


def test_numpys_memory_error_is_a_memory_error() -> None:
    np = pytest.importorskip("numpy")
    body = body_of(lambda: np.empty(1 << 60, "u1"))
    assert (body["kind"], body["class"], body["fatal"]) == ("python_vm", "MemoryError", True)
    assert "Unable to allocate" in body["message"]


@pytest.mark.parametrize("delay", ["soon", -1, float("nan"), float("inf"), object()])
def test_an_invalid_delay_is_left_out(delay: Any) -> None:
    error = Transient("x")
    error.retry_after = delay
    assert body_of(raises(error))["retry_after"] is None


def test_import_errors_have_hints() -> None:
    missing = ModuleNotFoundError("No module named 'soundfile.x'", name="soundfile.x")
    assert "the package that provides 'soundfile'" in body_of(raises(missing), "import")["hint"]
    relative = ImportError("attempted relative import with no known parent package")
    assert "without the dot" in body_of(raises(relative), "import")["hint"]
    assert "hint" not in body_of(raises(ImportError("x")), "import")
    assert "hint" not in body_of(raises(missing), "call")


def test_code_without_lines_is_reported() -> None:
    code = compile("1/0", "<made>", "exec")
    made = types.CodeType.replace(code, co_filename="/gone/made.py")
    body = body_of(lambda: exec(made))
    assert body["frames"][-1] == {
        "file": "/gone/made.py",
        "line": 1,
        "function": "<module>",
        "source": "",
    }


@pytest.mark.parametrize("how", ["breakpoint()", "import pdb; pdb.set_trace()", "input('? ')"])
def test_what_needs_a_terminal_fails_with_a_hint(serve: Serve, how: str) -> None:
    worker = serve(f"def n(value):\n    if value: {how}\n    return value", python="nodes.py:n")
    with pytest.raises(Failed) as failed:
        worker.call(1)
    assert "no terminal" in failed.value.body["hint"]
    assert "gophersnake env python" in failed.value.body["hint"]
    assert worker.call(0) == 0


def test_a_recursion_that_the_node_has_allowed_gets_a_hint(serve: Serve) -> None:
    worker = serve(
        """
        import sys

        def down(depth):
            if not depth:
                raise MemoryError
            return down(depth - 1) + 1

        def n(value):
            if value:
                sys.setrecursionlimit(10**9)
                down(30_000)
        """,
        python="nodes.py:n",
    )
    assert worker.call(0) is None
    with pytest.raises(Failed) as failed:
        worker.call(1)
    body = failed.value.body
    assert "nested at least 10000 deep" in body["hint"]
    assert "sys.setrecursionlimit" in body["hint"]
    assert len(body["frames"]) == 100
    assert body["frames"][0]["function"] == "n"
    assert body["frames"][-1]["source"] == "raise MemoryError"
    assert body["text"].endswith("MemoryError\n")
