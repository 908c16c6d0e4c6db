"""Large buffers in shared memory, in real workers."""

from __future__ import annotations

import os
import sys
from textwrap import dedent
from typing import Any

import pytest
from gophersnake import Tensor

from tests.conftest import Serve
from tests.sharing import FROM, OWN, Host
from tests.supervisor import PING, PONG, Failed, Supervisor

np: Any = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="segments are Linux's")

MIB = 1 << 20

HEAD = """
    import gc, logging, os, threading, time
    import numpy as np
    import gophersnake
    from gophersnake import Audio, Image, empty
    log = logging.getLogger("node").info
    kept = []
"""


def sharing(
    serve: Serve, source: str, limits: dict[str, int] | None = None, **shared: Any
) -> tuple[Supervisor, Host]:
    """Start a worker that shares memory, and serves the function ``n``."""
    worker = serve(
        dedent(HEAD) + dedent(source), python="nodes.py:n", limits=limits or {}, shared=shared
    )
    assert worker.shares is not None
    return worker, worker.shares


def floats(size: int) -> Any:
    """Return an array of so many bytes."""
    return np.random.default_rng(size).random(size // 4, "f4")


def idle(worker: Supervisor) -> None:
    """Make the worker read its frames, so that it has sent all releases."""
    for call in (1 << 40, 1 << 41):
        worker.send(PING, call)
        assert worker.until(PONG).call == call


def test_an_input_is_a_read_only_view_and_a_result_is_shared(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
    def n(x):
        assert not x.flags.writeable and not x.flags.owndata
        try: x.flags.writeable = True
        except ValueError: pass
        else: raise AssertionError("an input can be made writable")
        log(str([line.split()[1] for line in open("/proc/self/maps") if "memfd:test" in line]))
        return x * 2
    """,
    )
    x = floats(MIB)
    for _ in range(3):
        assert (worker.call(x) == x * 2).all()
        assert host.places == [(OWN | 1, 0, MIB)]
        assert worker.logs[-1]["message"] == "['r--s']"
    assert host.outstanding == 0  # given back with the result, before it
    assert host.frame_types[-2:] == [13, 5]
    assert host.frame_types.count(13) == 3


def test_empty_costs_no_copy(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
    def n(what):
        if what == "two":
            first, second = empty(1 << 20, "u1"), empty((2, 1 << 19), np.uint8)
            first[:] = 1; second[:] = 2
            return [second, first[4096:]]
        out = empty((512, 512))
        assert out.dtype == np.float32 and out.flags.writeable and not out.flags.owndata
        out[:] = np.float32(what)
        return out
    """,
    )
    assert (worker.call(2) == np.full((512, 512), 2)).all()
    assert host.places == [(OWN | 1, 0, MIB)]
    found = worker.call("two")
    assert host.places == [(OWN | 2, 0, MIB), (OWN | 1, 4096, MIB - 4096)]
    assert [(each.shape, each.max()) for each in found] == [((2, MIB // 2), 2), ((MIB - 4096,), 1)]
    host.keep = True
    seen = set()
    for i in range(5):  # lent memory is not written again
        assert (worker.call(i) == i).all()
        seen.add(host.places[0][0])
    assert len(seen) == 5
    assert len([line for line in maps(worker) if "gophersnake" in line]) == 5


def test_empty_without_shared_memory(serve: Serve) -> None:
    import gophersnake

    plain = gophersnake.empty((2, 3), "int16")
    assert (plain.shape, plain.dtype, plain.flags.owndata) == ((2, 3), np.int16, True)
    assert gophersnake.empty(np.int64(4)).shape == (4,)
    worker, host = sharing(
        serve,
        """
    def n(what):
        kinds = {
            "small": lambda: empty(10),
            "object": lambda: empty(1 << 20, object),
            "none": lambda: empty((0, 1 << 20)),
            "full": lambda: empty(64 << 20),
            "one": lambda: empty(np.int64(1 << 20)),
            "two": lambda: empty((np.int64(256), 1024)),
            "negative": lambda: empty((-1024, -1024)),
            "scalar": lambda: empty(()),
        }
        made = kinds[what]()
        return [list(made.shape), made.base is None]
    """,
        limit=8 * MIB,
    )
    assert worker.call("small") == [[10], True]
    assert worker.call("object") == [[MIB], True]
    assert worker.call("none") == [[0, MIB], True]
    assert worker.call("full") == [[64 * MIB], True]
    assert worker.call("scalar") == [[], True]
    assert worker.call("one") == [[MIB], False]
    assert worker.call("two") == [[256, 1024], False]
    with pytest.raises(Failed, match="negative dimensions"):
        worker.call("negative")
    assert host.places == []


def test_several_arrays_are_shared_from_a_larger_size(serve: Serve) -> None:
    least: dict[str, Any] = {"from": 16 << 10}
    worker, host = sharing(
        serve,
        "def n(x): return [np.zeros(size, 'u1') for size in x] if len(x) > 1 else np.zeros(x[0], 'u1')",
        **least,
    )
    worker.call([20 << 10])
    assert [number != 0 for number, _, _ in host.places] == [True]
    worker.call([20 << 10, 64 << 10, 20 << 10])  # a segment for each would soon be too many
    assert [number != 0 for number, _, _ in host.places] == [False, True, False]


def test_an_input_that_is_returned_is_not_copied(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
    def n(*given):
        x, what = given
        if what == "all": return x
        if what == "slice": return {"part": x[1024:200_000]}
        if what == "bytes": return Image(x.view("u1")[: 512 * 600].reshape(512, 600), "gray8")
        if what == "view": return memoryview(x)
        if what == "gaps": return x[::2]
        if what == "small": return x[:10]
        if what == "twice": return [x, x[8:]]
    """,
    )
    x = floats(MIB)
    number = 1
    assert (worker.call(x, "all") == x).all()
    assert host.places == [(number, 0, MIB)]
    idle(worker)
    assert host.outstanding == 0
    assert (worker.call(x, "slice")["part"] == x[1024:200_000]).all()
    assert host.places == [(number, 4096, 4 * (200_000 - 1024))]
    assert worker.call(x, "bytes").pixels.tobytes() == x.tobytes()[: 512 * 600]
    assert host.places == [(number, 0, 512 * 600)] or host.places[0][0] < OWN
    idle(worker)
    assert (worker.call(x, "gaps") == x[::2]).all()
    assert host.places[0][0] == OWN | 1
    assert (worker.call(x, "small") == x[:10]).all()
    assert host.places == []
    first, second = worker.call(x, "twice")
    assert (first == x).all()
    assert (second == x[8:]).all()
    assert [at for _, at, _ in host.places] == [0, 32]
    idle(worker)
    assert host.outstanding == 0


def test_a_node_that_keeps_an_input_keeps_its_loan(serve: Serve) -> None:
    worker, host = sharing(
        serve,
        """
    def n(x):
        if x is None:
            kept.clear()
        elif isinstance(x, str):
            return kept[0] * 3
        else:
            kept.append(x[5:])
    """,
    )
    x = floats(MIB)
    for i in range(1, 4):
        worker.call(x + i)
        idle(worker)
        assert host.outstanding == i
    assert (worker.call("first") == (x + 1)[5:] * 3).all()
    worker.call(None)
    assert host.outstanding == 0
    assert host.frame_types[-2:] == [13, 5]


def test_an_input_is_given_back_when_the_node_fails(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): raise ValueError(x.shape)")
    for _ in range(3):
        with pytest.raises(Failed, match="262144"):
            worker.call(floats(MIB))
        idle(worker)
        assert host.outstanding == 0


def test_an_input_that_cannot_be_decoded_is_given_back(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): return 1")
    for body in (b"\xc1", b"\x92\x90\x80"):
        worker.send(4, 9, body, host.lend(bytes(MIB)))
        with pytest.raises(Failed):
            worker.end(9)
        idle(worker)
        assert host.outstanding == 0


def maps(worker: Supervisor) -> list[str]:
    """Return the mappings of shared memory that a worker has."""
    with open(f"/proc/{worker.pid}/maps") as file:
        return [line for line in file if "memfd:" in line]


def descriptors(worker: Supervisor) -> int:
    """Return how many descriptors a worker has."""
    return len(os.listdir(f"/proc/{worker.pid}/fd"))


@pytest.mark.parametrize("body", ["x + 1", "np.add(x, 1, out=empty(x.shape))", "x", "[x, x + 1]"])
def test_a_thousand_calls_take_no_more_than_one(serve: Serve, body: str) -> None:
    worker, host = sharing(serve, f"def n(x): return {body}")
    x = floats(MIB)
    for _ in range(3):
        worker.call(x)
    idle(worker)
    had = len(maps(worker)), descriptors(worker)
    for _ in range(1000):
        worker.call(x)
        idle(worker) if body[-1] == "]" or body == "x" else None
    idle(worker)
    assert (len(maps(worker)), descriptors(worker)) == had
    assert had[0] <= 3
    assert host.outstanding == 0
    assert host.forgotten == []


def test_free_segments_beyond_a_quarter_of_the_limit_end(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(sizes): return [np.ones(s, 'u1') for s in sizes]")
    worker.call([5 * MIB + 5 * i * MIB for i in range(6)])  # 105 MiB
    idle(worker)
    idle(worker)
    assert host.forgotten
    sizes = [
        int(b, 16) - int(a, 16) for line in maps(worker) for a, b in [line.split()[0].split("-")]
    ]
    assert sum(sizes) <= 32 * MIB
    assert descriptors(worker) < 20


def test_the_supervisor_can_end_its_segments(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): return x + 1")
    x = floats(MIB)
    for _ in range(5):
        assert (worker.call(x) == x + 1).all()
        idle(worker)
        host.end_free(worker.send)
        idle(worker)
        assert not [line for line in maps(worker) if "memfd:test" in line]


@pytest.mark.parametrize("size", [0, 4, 16 << 10, FROM - 4, FROM, FROM + 4, 3 * MIB])
def test_sizes_around_the_threshold(serve: Serve, size: int) -> None:
    worker, host = sharing(serve, "def n(x): return [x, x + 1, bytes(x)]")
    x = floats(size)
    same, more, raw = worker.call(x)
    assert (same == x).all()
    assert (more == x + 1).all()
    assert raw == x.tobytes()
    places = 3 if size >= 32 << 10 else 2 if size >= 16 << 10 else 0
    assert [number != 0 for number, _, _ in host.places] == [size >= FROM] * places


def test_many_buffers_of_all_sizes_in_one_value(serve: Serve) -> None:
    worker, host = sharing(serve, "def n(x): return {'same': x, 'new': [each * 2 for each in x]}")
    given = [floats(size) for size in (MIB, 100, 2 * MIB, 20_000, FROM, 0, 4 * MIB, FROM - 4)]
    found = worker.call(given)
    for want, same, new in zip(given, found["same"], found["new"], strict=True):
        assert (same == want).all()
        assert (new == want * 2).all()
    kinds = [number and (number >> 31) + 1 for number, _, _ in host.places]
    assert kinds == [1, 1, 0, 1, 1, 0, 2, 2, 0, 2, 2, 0]
    idle(worker)
    assert host.outstanding == 0


def test_tensors_audio_and_images_are_shared(serve: Serve) -> None:
    from gophersnake import Audio, Image

    worker, host = sharing(
        serve,
        """
    def n(*given):
        audio, image, tensor = given
        for each in (audio.samples, image.pixels):
            assert not each.flags.owndata and not each.flags.writeable
        return [audio, image, tensor]
    """,
    )
    samples = floats(4 * MIB).reshape(-1, 2)
    pixels = np.random.default_rng(1).integers(0, 256, (512, 512, 3), "u1")
    raw = np.arange(MIB, dtype="u1").tobytes()
    audio, image, tensor = worker.call(
        Audio(samples, 8000), Image(pixels, "rgb8"), Tensor("bfloat16", (MIB // 2,), raw)
    )
    assert [each[0] < OWN for each in host.places] == [True] * 3
    assert (audio.samples == samples).all()
    assert (image.pixels == pixels).all()
    assert bytes(tensor.data if isinstance(tensor, Tensor) else tensor.tobytes()) == raw
    idle(worker)
    assert host.outstanding == 0


def test_without_numpy_all_is_copied_and_given_back_at_once(serve: Serve) -> None:
    source = """
    import sys
    sys.modules["numpy"] = None
    import gophersnake
    def n(x):
        if x == "empty":
            try: gophersnake.empty(10)
            except ImportError as error: return str(error)
        return [x, gophersnake.Tensor(x.dtype, x.shape, bytearray(x.data))]
    """
    worker = serve(source, python="nodes.py:n", shared={})
    host = worker.shares
    assert host is not None
    x = floats(MIB)
    same, new = worker.call(x)
    assert (same == x).all()
    assert (new == x).all()
    assert [number & OWN for number, _, _ in host.places] == [OWN, OWN]
    assert host.outstanding == 0
    assert "NumPy" in worker.call("empty")


def test_a_worker_without_shared_memory_leaves_descriptor_5_alone(serve: Serve) -> None:
    worker = serve(
        """
    import os, socket
    def n(x):
        try: link = socket.socket(fileno=os.dup(5))
        except OSError: return x  # closed, or a file
        if link.type == socket.SOCK_STREAM: return x  # the connection itself may be there
        return "descriptor 5 passes segments"
    """,
        python="nodes.py:n",
    )
    x = floats(MIB)
    assert (worker.call(x) == x).all()
    worker, host = sharing(serve, "def n(x): return x * 2", limit=0)
    body_of_a_call = worker.begin(b"x")
    assert worker.end(body_of_a_call) == b"xx"
    assert host.places == []


@pytest.mark.parametrize("how", ["def", "async def"])
def test_inputs_of_failed_calls_are_given_back(serve: Serve, how: str) -> None:
    worker, host = sharing(
        serve,
        f"""
    {how} n(*given):
        x, what = given
        y = x[1:]
        if what == "well": return y.size
        if what == "chain":
            try: y.nothing
            except AttributeError as error: raise ValueError(y.shape) from error
        if what == "cycle":
            kept_by_itself = [y]
            kept_by_itself.append(kept_by_itself)
            return 1
        if what == "type": return [y, object()]
        raise gophersnake.Permanent(y)
    """,
    )
    worker.call(floats(MIB), "well")
    assert host.outstanding == 0
    for what in ("chain", "type", "raise"):
        with pytest.raises(Failed):
            worker.call(floats(MIB), what)
        idle(worker)
        assert host.outstanding == 0, what
    worker.call(floats(MIB), "cycle")
    idle(worker)
    assert host.outstanding == 1  # until the garbage collector runs


@pytest.mark.parametrize("seed", range(4))
def test_no_memory_is_written_while_it_is_lent(serve: Serve, seed: int) -> None:
    """Calls of all kinds; the memory that the supervisor was lent is checked when it is given back."""
    worker, host = sharing(
        serve,
        """
    def n(*given):
        what, x = given
        if what == "keep": kept.append((x, x.copy()))
        if what == "drop": kept[:] = kept[len(kept) // 2 :]
        assert all((view == copy).all() for view, copy in kept)
        if what == "pass": return x
        if what == "slice": return [x[100:], x[: len(x) // 2]]
        if what == "empty": return np.add(x, 1, out=empty(x.shape, x.dtype))
        if what == "waste": return [x + 1, empty(1 << 18)]
        if what == "kept": return [view for view, _ in kept[:3]]
        return x + 1
    """,
        limit=16 * MIB,
    )
    host.keep = True
    rng = np.random.default_rng(seed)
    held: list[tuple[tuple[int, int, int], bytes]] = []
    for _ in range(250):
        what = rng.choice(["keep", "drop", "pass", "slice", "empty", "waste", "kept", "copy"])
        worker.call(str(what), rng.random(int(rng.integers(10_000, 200_000)), "f4"))
        for place in host.places:
            if place[0] & OWN:
                held.append((place, host.look(*place)))
        if rng.random() < 0.3 or sum(place[2] for place, _ in held) > 3 * MIB:
            assert all(host.look(*place) == want for place, want in held)
            held.clear()
            worker.give_back()
        if rng.random() < 0.1:
            idle(worker)
            host.end_free(worker.send)
    worker.call("drop", np.zeros(1))
    assert worker.stderr() == ""
