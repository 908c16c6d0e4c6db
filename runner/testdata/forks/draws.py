"""Nodes that draw random numbers from generators that their module has."""

import random
import secrets
import uuid
from typing import Any

import numpy as np
from gophersnake import node
from numpy.random import rand

random.random()
np.random.rand()
random.seed(1)
np.random.seed(1)  # none of this is kept in forked workers
secret = random.SystemRandom()
rand()


def numbers() -> dict[str, Any]:
    return {
        "random": random.random(),
        "numpy": float(np.random.rand()),
        "rand": float(rand()),
        "SystemRandom": secret.random(),
        "secrets": secrets.token_hex(),
        "uuid1": uuid.uuid1().hex,
        "uuid4": uuid.uuid4().hex,
        "default_rng": float(np.random.default_rng().random()),
        "Random": random.Random().random(),
    }


@node
def draw(_: Any) -> dict[str, Any]:
    return numbers()


@node
class Seeded:
    def setup(self) -> None:
        random.seed(7)
        np.random.seed(7)

    def process(self, _: Any) -> list[float]:
        return [random.random(), float(np.random.rand())]
