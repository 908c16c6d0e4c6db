"""Shared memory, in which large buffers travel between the worker and the supervisor.

``shared`` has the memory of one connection: what the worker borrows and lends. Its own
segments come from an ``arena``. ``segments`` creates, maps and transfers single segments,
and ``releases`` packs the messages that give them back.
"""
