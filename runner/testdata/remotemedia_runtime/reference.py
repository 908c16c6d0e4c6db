"""Runs pipelines in RemoteMedia's own runtime, for the tests that compare with it.

Each line of the standard input is a case as JSON: ``manifest``; ``items``; ``count``, how many
results are expected; ``inline``, the classes of nodes.py to register; and ``processes``, the
dotted names of node types that run in a process of their own. The answer is a line
of standard output: ``{"results": [...]}`` or ``{"error": "..."}``. Items and results are
``{"text": ...}``, ``{"json": ...}`` or ``{"audio": {"rate", "channels", "samples"}}``, with
the samples as little-endian float32 in base64. The first line of output is the list of node
types that the runtime has.
"""

import asyncio
import base64
import json
import logging
import os
import sys

logging.disable(logging.WARNING)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # the runtime writes its log to the standard output

import nodes  # noqa: E402
import numpy as np  # noqa: E402
import remotemedia.runtime as runtime  # noqa: E402

PATIENCE = 20.0
"""How long a result that is expected may take, in seconds."""

SURPLUS = 0.3
"""How long to wait for results that are not expected."""


def answer(value):
    answers.write(json.dumps(value) + "\n")
    answers.flush()


def taken(item):
    """Return an item as the runtime takes it."""
    if "audio" not in item:
        return item.get("text", item.get("json"))
    audio = item["audio"]
    samples = np.frombuffer(base64.b64decode(audio["samples"]), "<f4")
    return {
        "type": "audio",
        "samples": samples,
        "sample_rate": audio["rate"],
        "channels": audio["channels"],
    }


def is_control(result):
    """Return whether a result is a message of RemoteMedia's flow control."""
    _, value = result
    return isinstance(value, dict) and value.get("type") == "control_message"


def given(result):
    """Return a result of the runtime as an item."""
    _, value = result
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, dict) and value.get("type") == "audio":
        samples = np.asarray(value["samples"], "<f4").tobytes()
        return {
            "audio": {
                "rate": value["sample_rate"],
                "channels": value["channels"],
                "samples": base64.b64encode(samples).decode(),
            }
        }
    if isinstance(value, dict) and value.get("type") == "json":
        return {"json": value["value"]}
    return {"json": value}


async def run(case):
    """Return the results of a case."""
    for name in case["inline"]:
        runtime.register_inline_node_class(getattr(nodes, name), name)
    for name, dotted in case["processes"].items():
        runtime.register_python_node_type(name, dotted, multi_output=True)
    session = await runtime.create_streaming_session(json.dumps(case["manifest"]))
    for item in case["items"]:
        await session.send_input(taken(item))
    results = []
    while True:
        # A recv_output that is canceled loses what comes later, so this is the last one.
        patience = PATIENCE if len(results) < case["count"] else SURPLUS
        try:
            result = await asyncio.wait_for(session.recv_output(), patience)
        except asyncio.TimeoutError:
            return results
        if result is None:
            return results
        if not is_control(result):
            results.append(given(result))


async def main():
    answer(await runtime.list_registered_node_types())
    for line in sys.stdin:
        try:
            answer({"results": await run(json.loads(line))})
        except Exception as error:
            answer({"error": repr(error)})
    os._exit(0)  # closing a session can take 20 s


asyncio.run(main())
