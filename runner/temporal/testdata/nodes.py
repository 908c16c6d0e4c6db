"""Nodes of the tests: each does what its input says."""

import os
import time
from pathlib import Path

import gophersnake


@gophersnake.node(name="Greet")
def greet(name: str) -> dict[str, object]:
    return {"text": f"Hello, {name}!", "length": len(name)}


@gophersnake.node(name="Obey")
def obey(order: dict[str, str]) -> str:
    match order["do"]:
        case "crash once":
            marker = Path(order["file"])
            if not marker.exists():
                marker.touch()
                os.abort()
        case "crash":
            with open(order["file"], "a") as begun:
                begun.write("x")
            os.abort()
        case "raise":
            raise ValueError("it is a bad day")
        case "refuse":
            raise gophersnake.Permanent("never")
        case "later":
            raise gophersnake.Transient("the index is being built", retry_after=3.5)
        case "wait":
            Path(order["file"]).touch()
            gophersnake.progress("waiting", 0.5)
            while True:
                time.sleep(0.01)
    return "fine"


@gophersnake.node(name="Count")
def count(text: str) -> int:
    return len(text)
