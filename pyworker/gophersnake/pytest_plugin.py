"""The plugin of gophersnake for pytest: the fixture ``call_node``.

The installed package registers it with pytest. If the package is only importable, write
``pytest_plugins = ["gophersnake.pytest_plugin"]`` in the ``conftest.py`` beside the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["call_node"]


@pytest.fixture
def call_node() -> Callable[..., Any]:
    """Return ``gophersnake.testing.call_node``, which runs a node as a worker does."""
    from gophersnake import testing  # only tests of nodes need it, not each run of pytest

    return testing.call_node
