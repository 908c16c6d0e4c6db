"""Registers the node in RemoteMedia's workers, whose runner imports no dotted paths."""

import sys

if "remotemedia.core.multiprocessing.runner" in sys.orig_argv:
    import rm_nodes
    from remotemedia.core.multiprocessing import register_node

    register_node("rm_nodes.Work")(rm_nodes.Work)
