"""A module whose import behaves as an environment variable says."""

import ctypes
import os
import signal
import sys
import time

WAY = os.environ["IMPORTING"]
if WAY == "missing package":
    import no_such_package  # noqa: F401
elif WAY == "import error":
    from os import no_such_name  # noqa: F401
elif WAY == "syntax":
    compile("def f(:", "somewhere.py", "exec")
elif WAY == "sys.exit":
    sys.exit(9)
elif WAY == "os._exit":
    os._exit(7)
elif WAY == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
elif WAY == "crash":
    ctypes.string_at(0)
elif WAY == "hang":
    time.sleep(3600)
