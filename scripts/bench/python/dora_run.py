"""Peer: a dataflow of two nodes of dora-rs.

This program executes ``dora run``, which starts the two nodes. The caller node answers
the benchmark's requests. Since dora redirects the standard streams of its nodes, the
caller gets this program's standard input and output as two other descriptors.
"""

from __future__ import annotations

import os

for descriptor in (0, 1):
    variable = ("BENCH_REQUESTS", "BENCH_ANSWERS")[descriptor]
    copy = os.dup(descriptor)
    os.set_inheritable(copy, True)
    os.environ[variable] = str(copy)
null = os.open(os.devnull, os.O_RDONLY)
os.dup2(null, 0)
os.dup2(2, 1)
os.chdir(os.path.dirname(os.path.abspath(__file__)))
os.execvp("dora", ["dora", "run", "--log-level", "error", "dora.yaml"])
