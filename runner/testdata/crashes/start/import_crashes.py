"""It crashes while it is imported."""

import ctypes

ctypes.memset(0, 0, 1)
