"""Embeds texts with WordLlama. Its wheel contains the model, so nothing is downloaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import wordllama
from gophersnake import Shape, node
from msgspec import Meta


@dataclass
class Texts:
    """The texts to embed."""

    texts: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(min_length=1, max_length=256)]


@dataclass
class Embeddings:
    """A vector of length 1 for each text."""

    model: str
    vectors: Annotated[np.ndarray, Shape("n 256"), "float32"]


@node(threads=4)
class Embed:
    """The average of the vectors of a text's tokens."""

    def setup(self) -> None:
        """Load the model, once for all threads."""
        folder = Path(wordllama.__file__).parent
        self.model = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    def process(self, request: Texts) -> Embeddings:
        """Embed texts; one without any token becomes zeros."""
        vectors = self.model.embed(request.texts)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        return Embeddings("l2_supercat_256", vectors)
