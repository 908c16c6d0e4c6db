"""The memory that a decoded value takes is bounded, whatever its encoding says."""

from __future__ import annotations

import subprocess
import sys

import msgpack
import pytest
from gophersnake._worker.values.decoder import DENSEST, Decoder
from gophersnake._worker.values.format import ValueFault

from tests.conftest import Serve
from tests.supervisor import Failed

MOST = 1 << 20


def array_of(item: bytes, count: int) -> bytes:
    """Return the encoding of an array of equal values."""
    return b"\xdd" + count.to_bytes(4, "big") + item * count


BODIES = {
    "empty arrays": array_of(b"\x90", 30_000),
    "empty maps": array_of(b"\x80", 30_000),
    "maps of one": array_of(b"\x81\xa0\xc0", 10_000),
    "numbers": array_of(b"\x01", 60_000),
    "nested arrays": array_of(b"\x91\x91\x91\x90", 10_000),
    "JSON documents": array_of(b"\xd4\x04\x31", 10_000),
    "one map": b"\xdf" + (20_000).to_bytes(4, "big")
    + b"".join(msgpack.packb(str(i)) + b"\xc0" for i in range(20_000)),
}  # fmt: skip


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_value_that_takes_too_much_memory_is_refused(body: bytes) -> None:
    with pytest.raises(ValueFault, match=f"more than {MOST} bytes of memory") as refused:
        Decoder(MOST).decode(body, [])
    assert refused.value.path == "input"
    with pytest.raises(ValueFault, match="bytes of memory"):
        Decoder(MOST).arguments(b"\x92\x91" + body + b"\x80", [])
    assert Decoder().decode(body, []) == Decoder(0).decode(body, [])


@pytest.mark.parametrize("item", [b"\x90", b"\x81\xa0\xc0", b"\xd4\x04\x31"])
def test_no_body_below_the_metered_size_takes_too_much(item: bytes) -> None:
    count = MOST // DENSEST // len(item) - 2
    Decoder(MOST).decode(array_of(item, count), [])


def test_a_large_value_within_the_limit_is_decoded() -> None:
    value = {"texts": ["x" * 1000] * 100, "numbers": list(range(1000)), "map": {"a": None}}
    assert Decoder(MOST).decode(msgpack.packb(value), []) == value


def test_a_fault_in_a_large_body_is_still_located() -> None:
    body = array_of(b"\x01", 10_000)[:-1] + b"\xc1"
    with pytest.raises(ValueFault) as refused:
        Decoder(MOST).decode(body, [])
    assert refused.value.path == "input[9999]"


def test_a_worker_refuses_such_a_call_and_serves_the_next(serve: Serve) -> None:
    worker = serve("def n(x): return len(x)", python="nodes.py:n", limits={"decoded": MOST})
    with pytest.raises(Failed) as failed:
        worker.call([[]] * 30_000)
    assert failed.value.body["kind"] == "marshaling"
    assert worker.call([1] * 100) == 100


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc")
def test_the_memory_used_until_the_refusal_is_bounded() -> None:
    code = (
        "from gophersnake._worker.values.decoder import Decoder\n"
        "from gophersnake._worker.values.format import ValueFault\n"
        "import re\n"
        "n = 32 << 20\n"
        "body = b'\\xdd' + n.to_bytes(4, 'big') + b'\\x90' * n\n"
        "try: Decoder(64 << 20).decode(body, [])\n"
        "except ValueFault:\n"
        "    print(int(re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1]) >> 10)\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 300, "32 MiB of empty arrays would take 2 GiB"
