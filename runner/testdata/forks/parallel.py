"""Nodes that use joblib, whose processes are its own (loky) or those of multiprocessing."""

import os
from typing import Any

import joblib
import numpy as np
from gophersnake import node


def total(values: np.ndarray) -> float:
    return float(values.sum())


def double(value: int) -> int:
    return value * 2


@node
def use(what: list[str]) -> bool:
    """Use a backend, also with an array that is large enough for shared memory."""
    (backend,) = what
    with joblib.Parallel(n_jobs=2, backend=backend) as parallel:
        small = parallel(joblib.delayed(double)(i) for i in range(8))
        large = parallel(joblib.delayed(total)(np.ones(1 << 18)) for _ in range(4))
    return small == [0, 2, 4, 6, 8, 10, 12, 14] and large == [float(1 << 18)] * 4


@node
def reuse(_: Any) -> list[Any]:
    """Use the executor that loky keeps between calls, and compute with a closure.

    Without semaphores joblib would compute everything in this process.
    """
    offset, worker = 3, os.getpid()

    def compute(value: int) -> int:
        if os.getpid() == worker:
            raise RuntimeError("this is no process of loky's")
        return value + offset

    return list(
        joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(compute)(i) for i in range(4))
    )
