"""Prints which of the modules that create environments an interpreter has."""

import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]

import importlib.metadata
import importlib.util
import json


def has(module):
    """Report whether a module can be imported."""
    return importlib.util.find_spec(module) is not None


def version(package):
    """Return the version of a package, empty for none."""
    try:
        return importlib.metadata.version(package) or ""
    except importlib.metadata.PackageNotFoundError:
        return ""


print(
    "gophersnake-tooling:"
    + json.dumps(
        {
            "venv": has("venv"),
            "ensurepip": has("ensurepip"),
            "pip": version("pip") if has("pip") else "",
            "msgpack": version("msgpack") if has("msgpack") else "",
        }
    )
)
