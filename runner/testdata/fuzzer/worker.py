"""The state of the protocol on the worker's side, and an honest answer to every frame.

Every step passes a named point, at which the worker stalls or does something wrong. As most
steps are honest, the supervisor's side reaches deep states before the wrong one.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import random
import select
import signal
import socket
import struct
import time
from dataclasses import dataclass, field

import faults
import msgpack
import wire
from wire import OWN, Buffer, Frame

SEAL_SHRINK, SEAL_GROW = fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW
SEAL_FUTURE_WRITE = 0x10  # Linux's number; Python lacks its name before 3.13
LARGEST_SEGMENT = 1 << 20


@dataclass
class Call:
    """A call that has not been answered."""

    id: int
    kind: int
    session: int
    items: int = 0
    """How many values it is yet to return."""
    credit: int = 0
    loans: list[int] = field(default_factory=list)


@dataclass
class Segment:
    """A segment of the worker's own."""

    descriptor: int
    size: int
    references: int = 0


def count(name: str) -> int:
    """Count one more of something in a file that all workers of a node share."""
    path = os.path.join(os.environ["HOSTILE_FOLDER"], name)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(descriptor, b".")
    counted = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.close(descriptor)
    return counted


class Worker:
    """A worker and what it remembers of the protocol."""

    def __init__(self, stall: str) -> None:
        """Take the point at which to stall, if any."""
        self.stall_at = stall
        self.node = os.environ.get("HOSTILE_NODE", "value")
        self.forked = False
        self.calls: dict[int, Call] = {}
        self.answered: list[int] = []
        self.loans: dict[int, int] = {}  # references to the supervisor's segments
        self.lent: dict[int, tuple[int, int]] = {}  # their descriptors and sizes
        self.owned: dict[int, Segment] = {}
        self.numbers = 0
        self.sessions: set[int] = set()
        self.begun = 0
        self.received = bytearray()
        self.window = 16
        self.shared_from = 0
        self.shared_limit = 0
        self.sock = socket.socket()
        self.channel: socket.socket | None = None

    def become(self, seed: str) -> None:
        """Make all further decisions depend on a seed."""
        self.seed = seed
        self.chance = random.Random(seed)
        self.honest = True  # so far
        rates = [0, 0.001, 0.003, 0.006, 0.01, 0.03, 0.1, 0.4]
        self.rate = 0.0 if self.stall_at else self.chance.choice(rates)

    # Points.

    def is_due(self, _: str) -> bool:
        """Return whether the worker does something wrong now."""
        due = self.chance.random() < self.rate
        self.honest = self.honest and not due
        return due

    def at(self, point: str) -> None:
        """Pass a point of the protocol, or stall there."""
        if self.stall_at == point:
            self.stall()
        if self.is_due(point):
            faults.of_process(self)

    def stall(self) -> None:
        """Do nothing, whatever signal arrives."""
        if self.stall_at == "call":
            faults.promise_heartbeat()
        for each in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGABRT):
            signal.signal(each, signal.SIG_IGN)
        if record := os.environ.get("HOSTILE_STALLED"):
            with open(record, "w") as file:
                file.write("stalled")
        if self.stall_at == "call":
            faults.wait_for_fork()
        while True:
            time.sleep(3600)

    def send(self, point: str, data: bytes) -> None:
        """Send a frame, or less, or something else."""
        self.at(point)
        for part, size in (("header", 12), ("descriptors", 30), ("end", len(data) - 1)):
            if self.stall_at == f"{part} of {point}":
                self.sock.sendall(data[:size])
                self.stall()
        if self.is_due("mutated"):
            data = wire.mutated(self.chance, data)
        if self.is_due("half"):
            self.sock.sendall(data[: self.chance.randrange(len(data) + 1)])
            faults.of_process(self)
        if self.is_due("slow"):
            faults.send_slowly(self, data)
        else:
            self.sock.sendall(data)

    # The connection.

    def run(self) -> None:
        """Connect, set up, and serve until the supervisor has had enough."""
        for each in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(each, lambda *_: None)
        self.at("spawned")
        self.connect()
        self.send("hello", wire.pack(wire.HELLO, msgpack.packb(faults.hello(self))))
        self.set_up()
        self.send("ready", wire.pack(wire.READY, msgpack.packb(faults.description(self))))
        while True:
            self.step()

    def connect(self) -> None:
        """Announce a socket and accept the supervisor's connection."""
        secret = os.read(3, 32)
        path = os.environ.get("PLUGIN_UNIX_SOCKET_DIR", "/nowhere") + "/worker"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(4)
        line = faults.announcement(self, path)
        self.at("announcement")
        if self.stall_at == "half of the announcement":
            os.write(1, line[:9])
            self.stall()
        os.write(1, line)
        self.at("accept")
        self.sock, _ = listener.accept()
        listener.close()
        self.at("secret")
        if len(secret) == 32:
            self.sock.recv(32, socket.MSG_WAITALL)
        os.unlink(path)
        self.at("connected")

    def set_up(self) -> None:
        """Receive the setup, and say something before ready."""
        self.at("setup")
        frame = self.receive()
        setup = msgpack.unpackb(frame.body, strict_map_key=False)
        self.window = setup["window"]["items"]
        if shared := setup["shared"]:
            self.channel = socket.socket(fileno=os.dup(5))
            self.shared_from, self.shared_limit = shared["from"], shared["limit"]
        for _ in range(self.chance.randrange(4)):
            self.say_something()

    def receive(self) -> Frame:
        """Wait for the next frame."""
        while (frame := wire.parse(self.received)) is None:
            data = self.sock.recv(1 << 18)
            if not data:
                raise EOFError
            self.received += data
        return frame

    def step(self) -> None:
        """Take the frames that have arrived, and answer a call or say something."""
        busy = bool(self.calls)
        ready, _, _ = select.select([self.sock], [], [], 0 if busy else 0.3)
        if ready:
            frame: Frame | None = self.receive()
            while frame is not None:
                self.take(frame)
                frame = wire.parse(self.received)
        self.at("idle")
        if self.calls and self.chance.random() < 0.9:
            self.answer(self.chance.choice(list(self.calls.values())[:3]))
        if self.chance.random() < 0.2:
            self.say_something()
        if self.chance.random() < 6 * self.rate:  # most steps pass several other points
            self.honest = False
            faults.of_protocol(self)

    # Frames of the supervisor.

    def take(self, frame: Frame) -> None:
        """Change the state as a frame says."""
        self.receive_descriptors(frame)
        match frame.kind:
            case wire.CALL | wire.OPEN | wire.FINISH | wire.SNAPSHOT:
                self.begin(frame)
            case wire.CREDIT if frame.call in self.calls:
                self.calls[frame.call].credit += msgpack.unpackb(frame.body)
            case wire.CANCEL if frame.call in self.calls and self.chance.random() < 0.7:
                self.fail(self.calls[frame.call], "canceled")
            case wire.PING:
                self.send("pong", wire.pack(wire.PONG, call=frame.call))
            case wire.RELEASE:
                for number, count in msgpack.unpackb(frame.body):
                    if number in self.owned:
                        self.owned[number].references -= count
            case wire.FORGET:
                for number in msgpack.unpackb(frame.body):
                    self.loans.pop(number, None)
                    if number in self.lent:
                        os.close(self.lent.pop(number)[0])
            case wire.DROP:
                self.sessions.discard(frame.session)
            case wire.SHUTDOWN:
                self.at("shutdown")
                os._exit(0)

    def begin(self, frame: Frame) -> None:
        """Take a call."""
        call = Call(frame.call, frame.kind, frame.session)
        call.credit = self.window
        many = self.node != "value" and frame.kind in (wire.CALL, wire.FINISH)
        call.items = self.chance.choice([1, 1, 2, 40]) if many else 0
        for each in frame.buffers:
            if each.segment:
                self.loans[each.segment] = self.loans.get(each.segment, 0) + 1
                call.loans.append(each.segment)
        self.calls[call.id] = call
        self.begun += 1
        os.pwrite(4, struct.pack("<Q", self.begun + 1), 0)
        if frame.kind == wire.OPEN:
            self.sessions.add(frame.session)
        self.at(
            {wire.CALL: "call", wire.OPEN: "open", wire.FINISH: "finish"}.get(
                frame.kind, "snapshot"
            )
        )

    def receive_descriptors(self, frame: Frame) -> None:
        """Receive the segments that a frame names and that are not known yet."""
        if self.channel is None:
            return
        wanted = {each.segment for each in frame.buffers if each.segment} - self.lent.keys()
        while wanted:
            self.at("transfer")
            data, descriptors, _, _ = socket.recv_fds(self.channel, 12, 1)
            if not descriptors:
                return
            number, size = struct.unpack("<IQ", data)
            self.lent[number] = (descriptors[0], size)
            wanted.discard(number)

    # Frames of the worker.

    def answer(self, call: Call) -> None:
        """Send an item, or the answer of a call."""
        if call.items > 0:
            if call.credit > 0:
                call.items -= 1
                call.credit -= 1
                self.send("item", self.value(wire.ITEM, call))
            return
        del self.calls[call.id]
        self.answered = [*self.answered[-20:], call.id]
        self.release(call)
        if not self.stall_at and self.chance.random() < 0.1:
            self.send("error", wire.pack(wire.ERROR, faults.error(self, "execution"), call.id))
        elif (self.node != "value" and call.kind != wire.SNAPSHOT) or call.kind == wire.OPEN:
            self.send("last", wire.pack(wire.RESULT, b"\xc0", call.id))
        else:
            self.send("result", self.value(wire.RESULT, call))
        if self.forked and self.honest:
            count("served")
        if self.stall_at in ("template ended", "template reported", "template reap"):
            os._exit(0)  # others reach that point when this worker has ended

    def fail(self, call: Call, kind: str) -> None:
        """Answer a call with an error."""
        self.calls.pop(call.id)
        self.release(call)
        self.send("error", wire.pack(wire.ERROR, faults.error(self, kind), call.id))

    def release(self, call: Call) -> None:
        """Release the buffers of a call, now or never."""
        for number in call.loans:
            if self.loans.get(number, 0) > 0 and not self.is_due("keep"):
                self.loans[number] -= 1
                self.send("release", wire.pack(wire.RELEASE, msgpack.packb([[number, 1]])))

    def value(self, kind: int, call: Call) -> bytes:
        """Return the frame of a value."""
        how = (
            "segment"
            if "segment" in self.stall_at
            else self.chance.choice(["small", "small", "inline", "segment"])
        )
        if how == "segment" and (buffer := self.shared_buffer()):
            body = msgpack.packb(wire.tensor(buffer.size))
            return wire.pack(kind, body, call.id, buffers=[buffer])
        if how == "small":
            return wire.pack(kind, msgpack.packb(wire.small_value(self.chance)), call.id)
        size = self.chance.choice([0, 1, 16384, 200000])
        return wire.pack(
            kind, msgpack.packb(wire.tensor(size)), call.id, buffers=[Buffer(bytes(size))]
        )

    def shared_buffer(self) -> Buffer | None:
        """Return a buffer in a segment: a lent one, a free one, or a new one."""
        if self.channel is None:
            return None
        lent = [number for number, count in self.loans.items() if count > 0 and number in self.lent]
        if lent and self.chance.random() < 0.3:
            number = self.chance.choice(lent)
            size = self.lent[number][1]
            return Buffer(segment=number, size=self.chance.choice([0, 1, size]))
        free = [number for number, each in self.owned.items() if each.references <= 0]
        if not free or self.chance.random() < 0.3:
            if len(self.owned) >= 6:
                self.forget(free)
            number = self.new_segment()
        else:
            number = self.chance.choice(free)
        owned = self.owned[number]
        owned.references += 1
        return Buffer(segment=number, size=owned.size)

    def new_segment(self) -> int:
        """Create a segment, send its descriptor and return its number."""
        size = self.chance.choice([1, 4096, 70000, LARGEST_SEGMENT])
        descriptor = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(descriptor, size)
        seals = SEAL_SHRINK | SEAL_GROW | SEAL_FUTURE_WRITE
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
        self.numbers += 1
        number = OWN | self.numbers
        self.owned[number] = Segment(descriptor, size)
        faults.transfer(self, number, size, descriptor)
        return number

    def forget(self, numbers: list[int]) -> None:
        """Destroy free segments."""
        for number in numbers[:3]:
            os.close(self.owned.pop(number).descriptor)
            self.send("forget", wire.pack(wire.FORGET, msgpack.packb([number])))

    def say_something(self) -> None:
        """Send a message that belongs to no call, or write output."""
        match self.chance.randrange(4):
            case 0:
                body = {
                    "level": "info",
                    "message": "m",
                    "logger": "l",
                    "time": 0.0,
                    "fields": {"a": 1},
                }
                self.send("log", wire.pack(wire.LOG, msgpack.packb(body)))
            case 1:
                body = {"message": "m", "fraction": self.chance.random(), "calls": list(self.calls)}
                self.send("progress", wire.pack(wire.PROGRESS, msgpack.packb(body)))
            case 2:
                os.write(self.chance.choice([1, 2]), b"a line\n")
            case 3 if self.lent:
                number = self.chance.choice(list(self.lent))
                descriptor, size = self.lent[number]
                with mmap.mmap(descriptor, size, prot=mmap.PROT_READ) as memory:
                    memory[0]
