"""Shared memory, in which large buffers travel between the worker and the supervisor.

``shared`` has the memory of one connection: the segments that the worker borrows and
lends. An ``arena`` holds its own segments. ``segments`` creates, maps and transfers single
segments, and ``releases`` packs the bodies of the frames that release them.
"""
