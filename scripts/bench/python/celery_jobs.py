"""Peer of the jobs: Celery with Redis, which syncs each write to the disk before it answers."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

import celery
import jobs

PORT = os.environ.get("BENCH_REDIS_PORT", "")

app = celery.Celery(
    "celery_jobs", broker=f"redis://127.0.0.1:{PORT}/0", backend=f"redis://127.0.0.1:{PORT}/1"
)
# A task is removed from the queue after it has run, so that none is lost with a worker.
app.conf.task_acks_late = True
app.conf.broker_connection_retry_on_startup = True


REDIS = """
port {port}
bind 127.0.0.1
dir {folder}
appendonly yes
appendfsync always
save ""
"""


@app.task
def echo(value: Any) -> Any:
    """Return the value unchanged."""
    return value


def free_port() -> str:
    """Return a port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def main() -> None:
    """Serve the benchmark's requests."""
    server = shutil.which("redis-server")
    if server is None:
        sys.exit("there is no redis-server (Debian: redis-server)")
    port = free_port()
    environment = {**os.environ, "BENCH_REDIS_PORT": port}
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        settings = os.path.join(folder, "redis.conf")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(REDIS.format(port=port, folder=folder))
        worker = (
            f"{sys.executable} -m celery -A celery_jobs worker --concurrency 1 --loglevel error"
        )
        worker += " --without-gossip --without-mingle --without-heartbeat"
        for command in ([server, settings], worker.split()):
            process = subprocess.Popen(
                command,
                cwd=os.path.dirname(__file__),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr,
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            await_port(port, process)
        app.conf.broker_url = f"redis://127.0.0.1:{port}/0"
        app.conf.result_backend = f"redis://127.0.0.1:{port}/1"
        jobs.serve(run)


def await_port(port: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until something listens at a port."""
    while process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
            return
        time.sleep(0.05)
    sys.exit(f"{process.args} has ended")


def run(value: Any, count: int) -> list[Any]:
    """Submit tasks and return their results."""
    return celery.group(echo.s(value) for _ in range(count))().get(timeout=120)


if __name__ == "__main__":
    main()
