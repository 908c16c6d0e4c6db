"""Shared memory, in which large buffers travel between worker and supervisor."""
