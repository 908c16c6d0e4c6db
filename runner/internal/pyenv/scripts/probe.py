"""Prints a description of the interpreter that runs it.

It runs on old interpreters too, so that their version can be reported.
"""

import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]  # import nothing from the current folder

import json
import sysconfig

version = sys.version_info
pre = {"alpha": "a", "beta": "b", "candidate": "rc"}.get(version[3], "")
implementation = getattr(sys, "implementation", None)
print(
    "gophersnake-probe:"
    + json.dumps(
        {
            "executable": sys.executable or "",
            "version": ".".join(map(str, version[:3])) + (pre + str(version[4]) if pre else ""),
            "implementation": getattr(implementation, "name", "cpython"),
            "platform": sysconfig.get_platform(),
            "abi": " ".join(
                [
                    getattr(implementation, "cache_tag", None) or "",
                    getattr(sys, "abiflags", ""),
                    getattr(implementation, "_multiarch", ""),
                ]
            ),
            "prefix": sys.prefix,
            "base_prefix": getattr(sys, "base_prefix", sys.prefix),
        }
    )
)
