"""The values of nodes as bytes: msgpack bodies, and large buffers beside them.

``encoder`` and ``decoder`` are the two directions of the ``format``. ``arrays``, ``media``
and ``plain`` each convert a family of Python objects. ``faults`` locates the part of a
value or body that is invalid, and is imported only then.
"""
