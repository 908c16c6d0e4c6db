"""Peer: a gRPC plugin for go-plugin, after the Python plugin of its examples.

Two things differ from that example. First, the service uses grpcio's generic handlers,
whose messages are bytes, so that it needs neither protoc nor generated code: a value is
msgpack, as with gophersnake, and an array is its bytes. Second, the plugin listens on a
Unix socket, as go-plugin's own Go plugins do, and exits at go-plugin's Shutdown or when
the host is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from concurrent import futures

import grpc
import msgpack
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import HealthServicer

LIFELINE = 3
"""The descriptor of a pipe; only the host has its other end."""


def echo(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Decode a value and return it encoded."""
    return msgpack.packb(msgpack.unpackb(request))


def double(request: bytes, context: grpc.ServicerContext) -> bytes:
    """Double an array of float32; the message is its bytes."""
    return np.multiply(np.frombuffer(request, "<f4"), 2).tobytes()


def main() -> None:
    """Serve until the host calls Shutdown or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only the host ends the plugin
    ended = threading.Event()

    def shutdown(request: bytes, context: grpc.ServicerContext) -> bytes:
        ended.set()
        return b""  # an empty message

    def watch_host() -> None:
        os.read(LIFELINE, 1)
        ended.set()

    health = HealthServicer()
    health.set("plugin", health_pb2.HealthCheckResponse.SERVING)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=10),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    for service, method, behavior in (
        ("bench.Echo", "Call", echo),
        ("bench.Array", "Double", double),
        ("plugin.GRPCController", "Shutdown", shutdown),
    ):
        handler = grpc.unary_unary_rpc_method_handler(behavior)
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service, {method: handler}),)
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        socket = os.path.join(folder, "plugin.sock")
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        threading.Thread(target=watch_host, daemon=True).start()
        print(f"1|1|unix|{socket}|grpc", flush=True)
        ended.wait()
        server.stop(grace=1).wait()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
