"""Peer of the section serve: mosec, one worker; its arguments are mosec's."""

from __future__ import annotations

from typing import Any

from mosec import Server, Worker


class Echo(Worker):
    """Returns what it is given."""

    def forward(self, data: Any) -> Any:
        """Return the value unchanged."""
        return data


if __name__ == "__main__":
    server = Server()
    server.append_worker(Echo, num=1)
    server.run()
