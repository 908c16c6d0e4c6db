"""Registers node types in the workers of RemoteMedia, whose runner imports no dotted paths."""

import sys

if "remotemedia.core.multiprocessing.runner" in sys.orig_argv:
    import api  # noqa: F401 - it registers its nodes
    from remotemedia.core.multiprocessing import register_node
    from remotemedia.nodes.test_echo import EchoNode

    register_node("remotemedia.nodes.test_echo.EchoNode")(EchoNode)
