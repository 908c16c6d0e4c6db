"""The worker: one process that serves one node to the supervisor.

``serve`` is the process from its start to its end; it reads from top to bottom.
It sets up the node that ``load`` found and ``signature`` checked, and hands it to what
serves it: the ``server``, one frame after the other, or, for an async node, the
``eventloop``. The server has a ``handler`` for each kind of node: ``calls``, ``sessions``
and ``batches``. ``invoke`` runs node code, which ``interrupt`` can stop; ``answers`` and
``items`` tell what came of it, as far as the ``window`` allows, and ``begun`` that it was
begun. The ``connection`` has frames in and an ``outbox``. The ``codec`` knows values
(``plain``, ``arrays`` and ``media`` each some of them), and ``failure`` words exceptions.
``faults`` and ``scan`` find the place inside a value, or a body, that is wrong. ``segments``
is the shared memory in which large buffers travel: an ``arena`` of the worker's
own, the ``atlas`` of what is mapped, and ``memfd``, which is the system's. ``memory`` and
``descriptors`` bound what the process takes, and ``confines`` knows what it may do. ``lastwords`` sees to it that an end without
a word leaves one all the same, and the ``pulse`` shows whether Python code can still run.
A ``template`` forks workers that need not import their node any more, where ``fitness`` has
nothing against it.
"""

COOKIE = ("GOPHERSNAKE_WORKER", "b3d1c2f0")
"""The environment variable by which a supervisor says that it started this process."""

TEMPLATE = ("GOPHERSNAKE_TEMPLATE", COOKIE[1])
"""The one by which it says that the process is to fork workers."""

PROTOCOL = 1
"""The version of the wire's protocol."""
