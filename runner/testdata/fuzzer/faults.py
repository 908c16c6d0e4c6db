"""What a worker can do wrong: to its process, to the protocol, and to its descriptors.

Everything here is bounded, so that the machine that runs it is safe: sparse files may claim
any size, but no fault writes more than a few MiB.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import time
from typing import TYPE_CHECKING

import msgpack
import wire
from wire import OWN, Buffer

if TYPE_CHECKING:
    from worker import Worker

SIGNALS = (
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGSTOP,
    signal.SIGBUS,
    signal.SIGTERM,
    signal.SIGPIPE,
)


# Words.


def announcement(worker: Worker, path: str) -> bytes:
    """Return the handshake line."""
    line = f"1|1|unix|{path}|msgpack\n".encode()
    if worker.is_due("announcement"):
        return worker.chance.choice(
            [
                b"1|\n",
                b"1|1|tcp|127.0.0.1:1|msgpack\n",
                b"1|9|unix|/nowhere|msgpack\n",
                b"1|1|unix|/nowhere|grpc\n",
                b"1|1|unix|" + b"x" * 100000 + b"|msgpack\n",
                b"1|1|unix||\n",
                b"\x00" * 100 + b"\n" + line,
                line[:-1],
                line * 3,
                line.replace(b"msgpack", b"msgpack|AAAA|true"),
            ]
        )
    return line


def hello(worker: Worker) -> dict[str, object]:
    """Return the first message."""
    message: dict[str, object] = {"protocol": 1, "package": "0", "python": "3", "pid": os.getpid()}
    if worker.is_due("hello"):
        key = worker.chance.choice([*message, "implementation"])
        message[key] = worker.chance.choice([None, -1, 1 << 40, "x" * 5000, [], float("nan")])
    return message


def description(worker: Worker) -> dict[str, object]:
    """Return the description of the node."""
    chance = worker.chance
    message: dict[str, object] = {
        "name": "Hostile",
        "kind": "function",
        "node_kind": "value" if worker.node == "value" else "generator",
        "inputs": [{"name": "x", "required": True}],
        "many": worker.node != "value",
        "stateful": worker.node == "stateful",
        "restores": worker.node == "stateful",
        "concurrency": chance.choice([0, 1, 4]),
        "batch": chance.choice([0, 0, 3]) if worker.node == "value" else 0,
        "max_wait": 0.001,
    }
    if worker.is_due("description"):
        key = chance.choice([*message, "params", "line", "doc", "file", "python"])
        wrong = [
            None,
            -1,
            4096,
            4097,
            1 << 40,
            1 << 62,
            60.0,
            1e300,
            float("nan"),
            "x" * 70000,
            [{}] * 2000,
            True,
            False,
        ]
        message[key] = chance.choice(wrong)
    return message


def error(worker: Worker, kind: str) -> bytes:
    """Return the body of an error frame."""
    frame = {"file": "f.py", "line": 3, "function": "f", "source": "x"}
    message = {
        "kind": kind,
        "class": "ValueError",
        "message": "m",
        "text": "text",
        "stage": "call",
        "frames": [frame],
        "fatal": False,
    }
    if worker.is_due("error"):
        wrong = [
            None,
            -1,
            1 << 62,
            "x" * 100000,
            [frame] * 3000,
            [1, 2],
            {"a": {}},
            True,
            1e300,
            "\x1b]0;x\x07\n",
        ]
        key = worker.chance.choice(
            [*message, "retry_after", "oversize", "exit_code", "cause", "notes", "path"]
        )
        message[key] = worker.chance.choice(wrong)
    return msgpack.packb(message)


# The process.


def of_process(worker: Worker) -> None:
    """Stall, exit, die, lose a descriptor, or flood the output."""
    chance = worker.chance
    match chance.randrange(11):
        case 0:
            worker.stall()
        case 1 | 2:
            time.sleep(chance.choice([0.001, 0.05, 0.3, 3]))
        case 3:
            os._exit(chance.choice([0, 1, 2, 120, 255]))
        case 4:
            os.kill(os.getpid(), chance.choice(SIGNALS))
        case 5:
            os.close(chance.choice([1, 2, 3, 4, 5]))
        case 6:
            worker.sock.shutdown(chance.choice([socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR]))
            if chance.random() < 0.5:
                worker.stall()
        case 7:
            flood_output(worker)
        case 8 | 9:
            change_autopsy(worker)
        case 10 if os.fork() == 0:  # a child in the same group holds the descriptors
            time.sleep(chance.choice([0, 1, 3600]))
            os._exit(3)


def promise_heartbeat() -> None:
    """Name a heartbeat pipe that has no reader."""
    read, _write = os.pipe()
    os.pwrite(4, struct.pack("<Q", os.fstat(read).st_ino), 8)


def wait_for_fork() -> None:
    """Wait in the kernel so that the thread neither sleeps nor works, and only SIGKILL helps.

    The child shares the memory of this process. The parent continues when the child ends,
    which it does not.
    """
    libc = ctypes.CDLL(None)
    if libc.vfork() == 0:
        libc.pause()


def flood_output(worker: Worker) -> None:
    """Write much, or strange lines."""
    text = worker.chance.choice(
        [
            b"x" * (1 << 20),
            b"\n" * 100000,
            b'{"@level": 1, "@message": {}}\n' * 100,
            b'{"@level": "error", "@message": "m", "@timestamp": "x", "a": [1, {}]}\n' * 100,
            b"panic: \x1b[31m\xff\xfe\n" * 1000,
            b"1|1|unix|/nowhere|msgpack\n" * 10,
            b"goroutine 1 [running]:\n" * 100,
        ]
    )
    os.write(worker.chance.choice([1, 2]), text)


def change_autopsy(worker: Worker) -> None:
    """Change the file that is shared with the supervisor."""
    chance = worker.chance
    match chance.randrange(7):
        case 0:
            os.pwrite(4, struct.pack("<Q", chance.choice(wire.WIDE_EDGES)), 0)
        case 1:
            pipe = os.fstat(chance.choice([0, 1, 2, 3])).st_ino
            os.pwrite(4, struct.pack("<Q", chance.choice([pipe, *wire.WIDE_EDGES])), 8)
        case 2:
            os.ftruncate(4, chance.choice([0, 1, 8, 15, 16, 1 << 40, (1 << 62)]))
        case 3:
            os.pwrite(
                4, chance.randbytes(chance.choice([1, 1000, 1 << 20])), chance.choice([0, 8, 16])
            )
        case 4:
            report = b'Fatal Python error: x\n  File "/x", line 99999999999999999999 in f\n' * 4000
            os.pwrite(4, report, 16)
        case 5:
            read, write = os.pipe()
            os.set_blocking(write, False)
            os.write(write, b"x" * chance.choice([1, 65535]))
            os.pwrite(4, struct.pack("<Q", os.fstat(read).st_ino), 8)
        case 6:
            os.lseek(4, chance.choice([0, 1 << 60]), os.SEEK_SET)


# The protocol.


def of_protocol(worker: Worker) -> None:
    """Send a frame that is wrong in the present state, or much of one kind."""
    worker.chance.choice(
        [
            wrong_frame,
            wrong_answer,
            wrong_items,
            wrong_progress,
            wrong_release,
            wrong_forget,
            wrong_reference,
            wrong_transfer,
            flood,
            claim,
            wrong_rights,
            wrong_memory,
        ]
    )(worker)


def some_call(worker: Worker) -> int:
    """Return the id of a call: open, answered, or never made."""
    ids = [*worker.calls, *worker.answered, 0, (1 << 64) - 1]
    return worker.chance.choice([*ids, (max(ids[:-1]) + 1)])


def wrong_frame(worker: Worker) -> None:
    """Send a frame of any type with a wrong body."""
    chance = worker.chance
    kind = chance.choice([*range(1, 21), 0, 21, 255])
    buffers = [any_buffer(worker) for _ in range(chance.choice([0, 0, 0, 1, 5]))]
    session = chance.choice([0] * 9 + [1])
    worker.sock.sendall(
        wire.pack(kind, wire.wrong_body(chance), some_call(worker), session, buffers)
    )


def wrong_answer(worker: Worker) -> None:
    """Answer any call, maybe twice."""
    kind = worker.chance.choice([wire.RESULT, wire.ERROR, wire.ITEM])
    body = error(worker, "execution") if kind == wire.ERROR else b"\xc0"
    frame = wire.pack(kind, body, some_call(worker))
    worker.sock.sendall(frame * worker.chance.choice([1, 2]))


def wrong_progress(worker: Worker) -> None:
    """Report progress of any call, of many, or of none."""
    chance = worker.chance
    calls = chance.choice([[some_call(worker)], [some_call(worker)] * 5000, [], [-1], None, "1"])
    worker.sock.sendall(
        wire.pack(wire.PROGRESS, msgpack.packb({"message": "m", "calls": calls}), some_call(worker))
    )


def wrong_items(worker: Worker) -> None:
    """Send items that no credit covers."""
    body = msgpack.packb(b"x" * worker.chance.choice([1, 10000]))
    worker.sock.sendall(wire.pack(wire.ITEM, body, some_call(worker)) * 100)


def wrong_release(worker: Worker) -> None:
    """Release what is not held."""
    chance = worker.chance
    number = chance.choice([*worker.loans, *worker.owned, 1, *wire.EDGES])
    count = chance.choice([0, 1, 2, worker.loans.get(number, 0) + 1, -1, 1 << 32, 1 << 63])
    entries = chance.choice([[[number, count]], [[number, count]] * 3, [[number]], [number], [[]]])
    worker.sock.sendall(wire.pack(wire.RELEASE, msgpack.packb(entries)))


def wrong_forget(worker: Worker) -> None:
    """Forget what is not one's own, or what is in use."""
    chance = worker.chance
    number = chance.choice([*worker.loans, *worker.owned, *wire.EDGES])
    worker.sock.sendall(wire.pack(wire.FORGET, msgpack.packb([number] * chance.choice([1, 1, 2]))))
    worker.owned.pop(number, None)


def any_buffer(worker: Worker) -> Buffer:
    """Return a buffer that may be anywhere."""
    chance = worker.chance
    number = chance.choice(
        [0, 1, OWN, OWN | 77, (1 << 32) - 1, *worker.loans, *worker.owned, *worker.owned]
    )
    if number == 0:
        return Buffer(chance.randbytes(chance.choice([0, 1, 5000])))
    size = worker.owned[number].size if number in worker.owned else 4096
    edges = [0, 0, 1, size - 1, size, size + 1, 1 << 33, (1 << 63) - 1, (1 << 64) - 1]
    return Buffer(segment=number, offset=chance.choice(edges), size=chance.choice(edges))


def wrong_reference(worker: Worker) -> None:
    """Send a value whose buffers may be anywhere."""
    buffers = [any_buffer(worker) for _ in range(worker.chance.choice([1, 2, 30, 4097]))]
    body = msgpack.packb([wire.tensor(each.size or len(each.data)) for each in buffers[:40]])
    kind = worker.chance.choice([wire.RESULT, wire.ITEM])
    worker.sock.sendall(wire.pack(kind, body, some_call(worker), buffers=buffers))


def flood(worker: Worker) -> None:
    """Send thousands of small frames."""
    chance = worker.chance
    log = {"level": "error", "message": "\x1b[2J\nforged", "logger": "l", "time": 1, "fields": {}}
    frame = chance.choice(
        [
            wire.pack(wire.PONG),
            wire.pack(wire.RELEASE, b"\x90"),
            wire.pack(wire.FORGET, b"\x90"),
            wire.pack(wire.LOG, msgpack.packb(log)),
            wire.pack(wire.PROGRESS, msgpack.packb({"message": "m", "fraction": 2.0})),
        ]
    )
    for _ in range(chance.choice([1, 20])):
        worker.sock.sendall(frame * 1000)


def claim(worker: Worker) -> None:
    """Claim lengths of which only a little follows."""
    chance = worker.chance
    kind = chance.choice([wire.RESULT, wire.ITEM, wire.LOG, wire.ERROR])
    count = chance.choice([0, 1, 4096])
    size = chance.choice([1 << 20, 16 << 20, 256 << 20, (1 << 32) - 1])
    head = wire.HEADER.pack(
        0x47, 1, kind, 0, size if count == 0 else 0, some_call(worker), count, 0
    )
    table = (
        wire.DESCRIPTOR.pack(0, 0, 0, chance.choice([0, 4096, 2 << 20, 1 << 33, 1 << 63])) * count
    )
    worker.sock.sendall(head + table + b"x" * 5000)
    time.sleep(chance.choice([0, 0.5, 5]))


# Descriptors.


def strange_descriptor(worker: Worker) -> int:
    """Return a descriptor that is not a segment, or not a valid one."""
    chance = worker.chance
    match chance.randrange(12):
        case 0:
            return os.pipe()[chance.randrange(2)]
        case 1:
            return socket.socketpair()[0].detach()
        case 2:
            return os.open("/", os.O_RDONLY)
        case 3:
            return os.open(
                chance.choice(["/dev/zero", "/dev/null", "/proc/self/status"]), os.O_RDONLY
            )
        case 4:
            return os.open("/tmp", os.O_RDWR | os.O_TMPFILE)
        case 5:
            return os.memfd_create("unsealable")
        case 6:
            return lingering_socket()
        case 7:
            return os.dup(worker.sock.fileno())
        case 8:
            return os.dup(worker.channel.fileno() if worker.channel else 1)
    descriptor = os.memfd_create("strange", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, chance.choice([0, 1, 4096, 1 << 30, 1 << 46]))
    seals = chance.choice([0, 2, 4, 6, 14, 16, 20, 22, 22, 22, 23, 31])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    return descriptor


def lingering_socket() -> int:
    """Return a TCP socket: the process that closes its last descriptor waits for minutes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    receiver.detach()  # it stays open, and nothing is read
    sender.setblocking(False)
    try:
        while True:
            sender.send(bytes(1 << 16))
    except BlockingIOError:
        pass
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 600))
    return sender.detach()


def transfer(worker: Worker, number: int, size: int, descriptor: int) -> None:
    """Send the descriptor of a segment, or another one, or none, or several."""
    assert worker.channel is not None
    chance = worker.chance
    if worker.stall_at == "segment of result":
        worker.stall()
    if worker.is_due("a strange one"):
        descriptor = strange_descriptor(worker)
    if worker.is_due("another number"):
        number = chance.choice([number & ~OWN, OWN, number - 1, *worker.owned])
    if worker.is_due("another size"):
        size = chance.choice([0, size + 1, size - 1, *wire.WIDE_EDGES])
    message = struct.pack("<IQ", number, size)
    if worker.is_due("another length"):
        message = chance.choice([b"", message[:11], message + b"x", message * 50])
    descriptors = [descriptor]
    if worker.is_due("another count"):
        descriptors = chance.choice([[], [descriptor] * 2, [descriptor] * 200])
    socket.send_fds(worker.channel, [message], descriptors, socket.MSG_DONTWAIT)


def wrong_transfer(worker: Worker) -> None:
    """Send descriptors that no frame names, valid or not."""
    if worker.channel is None:
        return
    for _ in range(worker.chance.choice([1, 3, 150])):
        descriptor = (
            strange_descriptor(worker) if worker.chance.random() < 0.2 else os.memfd_create("x", 2)
        )
        worker.numbers += 1
        size = worker.chance.choice([4096, 4096, 1 << 46])
        if os.fstat(descriptor).st_size == 0:
            try:
                os.ftruncate(descriptor, size)
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, 6)
            except OSError:
                pass
        try:
            message = struct.pack("<IQ", OWN | worker.numbers, size)
            socket.send_fds(worker.channel, [message], [descriptor], socket.MSG_DONTWAIT)
        except OSError:
            return
        finally:
            os.close(descriptor)
    number = OWN | worker.numbers
    body = msgpack.packb(wire.tensor(4096))
    buffers = [Buffer(segment=number, size=4096)]
    worker.sock.sendall(wire.pack(wire.RESULT, body, some_call(worker), buffers=buffers))


def wrong_rights(worker: Worker) -> None:
    """Send descriptors over the connection, which carries none."""
    descriptors = [strange_descriptor(worker) for _ in range(worker.chance.choice([1, 3]))]
    socket.send_fds(worker.sock, [wire.pack(wire.PONG)], descriptors)
    for each in descriptors:
        os.close(each)


def wrong_memory(worker: Worker) -> None:
    """Change the memory of a segment that was sent: its content, its pages, its size."""
    for each in worker.owned.values():
        try:
            match worker.chance.randrange(4):
                case 0:
                    os.pwrite(each.descriptor, worker.chance.randbytes(min(each.size, 5000)), 0)
                case 1:
                    os.ftruncate(each.descriptor, worker.chance.choice([0, each.size * 2]))
                case 2:
                    fcntl.fcntl(each.descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
                case 3:
                    os.posix_fallocate(each.descriptor, 0, each.size)
        except OSError:
            pass


def send_slowly(worker: Worker, data: bytes) -> None:
    """Send the bytes of a frame one by one, or a few at a time, and the rest at once."""
    step = worker.chance.choice([1, 1, 7, 1000])
    for at in range(0, min(len(data), 100 * step), step):
        worker.sock.sendall(data[at : at + step])
        time.sleep(0.002)
    worker.sock.sendall(data[100 * step :])
