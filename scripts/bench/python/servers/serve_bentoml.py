"""Peer of the section serve: BentoML, one worker: bentoml serve serve_bentoml:Echo."""

from __future__ import annotations

from typing import Any

import bentoml


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Echo:
    """Returns what it is given."""

    @bentoml.api
    def echo(self, value: Any) -> Any:
        """Return the value unchanged."""
        return value
