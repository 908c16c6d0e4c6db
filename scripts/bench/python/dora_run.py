"""Peer: a dataflow of two nodes of dora-rs.

This program becomes ``dora run``, which starts the two. The caller answers the
benchmark's requests: it finds this program's standard input and output under
other numbers, since dora gives its nodes others.
"""

from __future__ import annotations

import os

for descriptor in (0, 1):
    variable = ("BENCH_REQUESTS", "BENCH_ANSWERS")[descriptor]
    copy = os.dup(descriptor)
    os.set_inheritable(copy, True)
    os.environ[variable] = str(copy)
nothing = os.open(os.devnull, os.O_RDONLY)
os.dup2(nothing, 0)
os.dup2(2, 1)
os.chdir(os.path.dirname(os.path.abspath(__file__)))
os.execvp("dora", ["dora", "run", "--log-level", "error", "dora.yaml"])
