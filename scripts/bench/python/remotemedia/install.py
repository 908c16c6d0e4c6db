"""Installs RemoteMedia's runtime into a folder: python install.py FOLDER.

The last line of output is the interpreter of the environment. It needs glibc 2.38 or newer on
x86-64, and the shared libraries that the runtime is linked with; on Debian 13: libdrm2
libx11-6 libxext6 libxfixes3 libgl1 libva2 libva-drm2 libva-x11-2 libopus0 libasound2t64. A
folder in which it was installed is used again.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import venv

NEEDS = [
    "av",
    "cloudpickle",
    "grpcio",
    "iceoryx2==0.9.1",  # the client asks for 0.9.0, with which its workers end at once
    "msgpack",
    "numpy<3",
    "protobuf",
    "typing_extensions",
]

# The second one has the package's __init__.py, the first one the runtime in it.
PACKAGES = ["remotemedia-ffi==0.4.4", "remotemedia-client==0.2.0"]


def unsupported() -> str:
    """Return why this machine cannot run it; empty if it may."""
    library, version = platform.libc_ver()
    if library != "glibc" or platform.machine() != "x86_64":
        return (
            f"it needs glibc on x86-64, and this is {library or 'no glibc'} on {platform.machine()}"
        )
    if tuple(map(int, version.split("."))) < (2, 38):
        return f"it needs glibc 2.38, and this machine has {version}"
    return ""


def install(folder: str) -> str:
    """Install the packages, and return the interpreter."""
    python = os.path.join(folder, "bin", "python3")
    complete = os.path.join(folder, "complete")
    if os.path.exists(complete):
        return python
    venv.create(folder, clear=True, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *NEEDS], check=True, stdout=sys.stderr)
    for package in PACKAGES:
        subprocess.run([*pip, "--no-deps", package], check=True, stdout=sys.stderr)
    check = [python, "-c", "import remotemedia.runtime"]
    subprocess.run(check, check=True, stdout=sys.stderr)
    with open(complete, "w"):
        return python


if __name__ == "__main__":
    reason = unsupported()
    if reason:
        sys.exit(f"RemoteMedia's runtime cannot be installed: {reason}")
    print(install(os.path.abspath(sys.argv[1])))
