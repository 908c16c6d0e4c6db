"""Built-in nodes for text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gophersnake import Audio, Permanent, node

END_MARKS = ("<|text_end|>", "<|audio_end|>")
"""What language models write at the end of a text."""


@node(name="EchoNode", stateful=True)
class Echo:
    """Return a text with a prefix that counts, and recordings as they are."""

    def begin(self) -> None:
        """Begin to count."""
        self.count = 0

    def process(self, value: Any) -> Any:
        """Return the answer to one value.

        Raises:
            Permanent: if the value is neither a text nor a recording.
        """
        if not isinstance(value, (str, Audio)):
            raise Permanent(f"EchoNode takes a text or a recording, not {type(value).__name__}")
        self.count += 1
        return f"Echo #{self.count}: {value}" if isinstance(value, str) else value


@node(name="TextCollectorNode", stateful=True)
class TextCollector:
    """Collect pieces of text, and yield each sentence when it is complete."""

    def __init__(
        self,
        split_pattern: str = r"[.!?;\n]+",
        min_sentence_length: int = 3,
        yield_partial_on_end: bool = True,
    ) -> None:
        """Set how sentences end.

        Args:
            split_pattern: a regular expression for the end of a sentence.
            min_sentence_length: a sentence of fewer bytes is dropped.
            yield_partial_on_end: also yield the sentence that an end mark cuts off.

        Raises:
            ValueError: if the pattern is no regular expression, or matches an empty text.
        """
        try:
            self.end = re.compile(split_pattern)
        except re.error as error:
            raise ValueError(
                f"split_pattern {split_pattern!r} is no regular expression: {error}"
            ) from None
        if self.end.match(""):
            raise ValueError(f"split_pattern {split_pattern!r} matches an empty text")
        self.shortest = min_sentence_length
        self.yields_partial = yield_partial_on_end

    def begin(self) -> None:
        """Begin with no text."""
        self.rest = ""

    def process(self, value: Any) -> Iterator[Any]:
        """Yield the sentences that end in this piece, then its end marks.

        Values that are no text are yielded as they are.
        """
        if not isinstance(value, str):
            yield value
            return
        marks = [mark for mark in END_MARKS if mark in value]
        for mark in marks:
            value = value.replace(mark, "")
        self.rest += value
        yield from self.sentences()
        if marks:
            if self.yields_partial and self.rest:
                yield self.rest
            self.rest = ""
            yield from marks

    def sentences(self) -> Iterator[str]:
        """Yield the complete sentences, and keep the rest."""
        start = 0
        for match in self.end.finditer(self.rest):
            sentence = self.rest[start : match.end()].lstrip()
            start = match.end()
            if len(sentence.encode()) >= self.shortest:
                yield sentence
        self.rest = self.rest[start:]

    def finish(self) -> str | None:
        """Return the sentence that the end of the stream cuts off."""
        return self.rest if self.yields_partial and self.rest.strip() else None

    def snapshot(self) -> str:
        """Return the text that is no sentence yet."""
        return self.rest

    def restore(self, state: str) -> None:
        """Continue with the text of a snapshot."""
        self.rest = state
