"""Reads requirement lines and prints which of them this interpreter does not satisfy."""

import sys

if sys.path and sys.path[0] == "":
    del sys.path[0]

import importlib
import importlib.metadata
import json
import re

for package in ("packaging", "pip._vendor.packaging", "setuptools._vendor.packaging"):
    try:
        parse = importlib.import_module(package + ".requirements").Requirement
        break
    except ImportError:
        parse = None


def installed(name):
    """Return the installed package of a name, or None."""
    try:
        return importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return None


seen = set()  # extras may require each other


def check(line, extra, faults):
    """Check a requirement, and the requirements of its extras."""
    if (line, extra) in seen:
        return
    seen.add((line, extra))
    wanted = parse(line)
    if wanted.marker and not wanted.marker.evaluate({"extra": extra}):
        return
    found = installed(wanted.name)
    if found is None:
        faults.append([line, "not installed"])
        return
    if not wanted.specifier.contains(found.version, prereleases=True):
        faults.append([line, found.version + " is installed"])
        return
    known = {
        name.lower().replace("_", "-") for name in found.metadata.get_all("Provides-Extra") or []
    }
    for name in sorted(wanted.extras):
        if name.lower().replace("_", "-") not in known:
            faults.append([line, f"{wanted.name} {found.version} has no extra named {name}"])
            continue
        for more in found.requires or []:
            if "extra" in more:
                check(more, name, faults)


def compare(found, operator, wanted):
    """Compare two releases; a pre-release counts as its release."""
    exact = operator == "==" and wanted.endswith(".*")
    size = len(wanted.split(".")) - 1
    mine, theirs = (
        [int(part) for part in re.match(r"[\d.]*", text).group().split(".") if part]
        for text in (found, wanted)
    )
    if exact or operator == "~=":
        prefix = theirs[:size]
        return mine[:size] == prefix and (exact or mine >= theirs)
    longest = max(len(mine), len(theirs))
    mine += [0] * (longest - len(mine))
    theirs += [0] * (longest - len(theirs))
    return {
        "==": mine == theirs,
        "===": mine == theirs,
        "!=": mine != theirs,
        ">=": mine >= theirs,
        "<=": mine <= theirs,
        ">": mine > theirs,
        "<": mine < theirs,
    }[operator]


def check_roughly(line, faults):
    """Check a requirement without packaging; markers and extras are ignored."""
    parts = re.match(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;@]*)(;|@|$)", line)
    found = installed(parts.group(1)) if parts else None
    if parts and parts.group(3) == ";":
        return
    if found is None:
        faults.append([line, "not installed"])
        return
    for operator, wanted in re.findall(r"(===|[~=!<>]=|[<>])\s*([^\s,]+)", parts.group(2)):
        if not compare(found.version, operator, wanted):
            faults.append([line, found.version + " is installed"])
            return


faults = []
for line in json.load(sys.stdin):
    if parse is None:
        check_roughly(line, faults)
        continue
    try:
        check(line, "", faults)
    except ValueError as error:  # InvalidRequirement, InvalidMarker
        faults.append([line, str(error).splitlines()[0]])
print("gophersnake-system:" + json.dumps({"packaging": parse is not None, "faults": faults}))
