"""Prints the configuration of `pip install`.

Reads it as pip does: the files first, then the variables, which take precedence.
"""

import configparser
import json
import os
import sys

home = os.path.expanduser("~")
config = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
own = os.environ.get("PIP_CONFIG_FILE", "")

if sys.platform == "darwin":
    files = ["/Library/Application Support/pip/pip.conf"]
    user = os.path.join(home, "Library", "Application Support", "pip")
    if not os.path.isdir(user):
        user = os.path.join(home, ".config", "pip")
else:
    folders = os.environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    files = [os.path.join(folder, "pip", "pip.conf") for folder in folders.split(os.pathsep)]
    user = os.path.join(config, "pip")
files.append("/etc/pip.conf")
if not (own and os.path.exists(own)):
    files += [os.path.join(home, ".pip", "pip.conf"), os.path.join(user, "pip.conf")]
files.append(own)
if own == os.devnull:
    files = []

found = {}
sections = {"global": {}, "install": {}}
for file in filter(None, files):
    parser = configparser.RawConfigParser()
    try:
        parser.read(file, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        continue  # pip reports it when it is used
    for section, values in sections.items():
        if parser.has_section(section):
            values.update(parser.items(section))
for values in sections.values():
    found.update({name.replace("_", "-"): value for name, value in values.items()})
for variable, value in os.environ.items():
    if variable.startswith("PIP_") and value:
        found[variable[4:].lower().replace("_", "-")] = value
if "default-timeout" in found:
    found.setdefault("timeout", found["default-timeout"])
print("gophersnake-pip:" + json.dumps({name: value.split() for name, value in found.items()}))
