"""The worker process: its start, its limits, and the report that it leaves when it ends.

``start`` begins a worker, ``handshake`` connects it to the supervisor, and ``worker`` sets
its node up and serves it to the end. ``template`` is the other kind of process: it forks
workers, if ``fork_safety`` allows it. ``reaper`` is the parent of both, from which ``fork``
forks them. ``ending`` is how a worker ends in good order, and how the children end that its
node forks. ``limits`` and ``sandbox`` are about what the process may use. ``handlers``
keeps what signal handlers raise away from the worker. ``logs``, ``heartbeat`` and
``exit_report`` show the supervisor its state.
"""
