"""The worker: a process that serves one node to the supervisor.

``process`` starts and ends it; begin reading at ``process/worker.py``. ``definition`` finds
and checks the node. ``serving`` runs its calls. ``wire`` receives and sends frames,
``values`` encodes and decodes the values in them, and ``memory`` shares large buffers with
the supervisor. ``originals`` has the functions of the standard library that a node may replace.

A call of a plain node passes through these modules: ``wire/connection.py`` receives it,
``serving/frameloop.py`` passes it to ``serving/calls.py``, ``values/decoder.py`` decodes its
arguments, ``serving/invoker.py`` runs the node, ``serving/answers.py`` and
``values/encoder.py`` encode the result, and ``wire/outbox.py`` sends it.
"""

import gc

COOKIE = ("GOPHERSNAKE_WORKER", "b3d1c2f0")
"""The environment variable with which a supervisor starts a worker."""

TEMPLATE = ("GOPHERSNAKE_TEMPLATE", COOKIE[1])
"""The environment variable with which it starts a template."""

PROTOCOL = 1
"""The version of the protocol."""

collects = False
"""Whether the garbage is to be collected again before node code runs."""


def collect_again() -> None:
    """Collect garbage again, if only the start of the process has disabled it."""
    global collects  # noqa: PLW0603 - one start a process
    if collects:
        collects = False
        gc.enable()
