"""Peer of the section serve: LitServe, one worker; its argument is the port."""

from __future__ import annotations

import sys
from typing import Any

import litserve


class Echo(litserve.LitAPI):
    """Returns what it is given."""

    def setup(self, device: str) -> None:
        """Set nothing up."""

    def predict(self, value: Any) -> Any:
        """Return the value unchanged."""
        return value


if __name__ == "__main__":
    server = litserve.LitServer(Echo(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error"
    )
