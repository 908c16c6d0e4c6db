"""The command ``describe``: prints the descriptions of the nodes of a pipeline or a file.

The request is a JSON document on standard input, the response one on standard output;
Go's ``runner/describe.go`` has the other side. Modules are imported, but nodes not set up.
"""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

from gophersnake._worker import adapters
from gophersnake._worker.definition.lookup import load, load_module, nodes_of
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.originals import os
from gophersnake._worker.serving import failure


def run() -> NoReturn:
    """Read the request, write the response, and exit."""
    response_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what modules print while they are imported must not get into the response
    request = json.load(sys.stdin)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - open until the process exits
    base = request["base"]
    if isolation := request.get("isolation"):
        from gophersnake._worker.process import sandbox

        sandbox.configure(isolation)
    if request.get("file"):
        nodes = _file(base, request["file"])
    else:
        nodes = [_node(base, node) for node in request["nodes"]]
    with response_to:
        json.dump({"nodes": nodes}, response_to)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # a module may have closed it or set it to None
            pass
    os._exit(0)  # modules may have started threads that do not end


def _node(base: str, node: dict[str, Any]) -> dict[str, Any]:
    stage = "import"
    params, ports = node["params"] or {}, node["ports"] or []
    try:
        target = load(base, node["python"], node["node_type"])
        stage = "params"
        signature = Signature(target, params, ports, node.get("threads") or 0)
        problems = signature.problems(params, ports)
        answer = _answer(node["id"], signature, [failure.remote_error(p, stage) for p in problems])
        if node.get("fused"):
            fusion = signature.fusion_problems()
            answer["fusion"] = [failure.remote_error(p, stage) for p in fusion]
        return answer
    except BaseException as error:
        return _answer(node["id"], None, [failure.remote_error(error, stage)])


def _file(base: str, file: str) -> list[dict[str, Any]]:
    try:
        module = load_module(base, file)
    except BaseException as error:
        return [_answer("", None, [failure.remote_error(error, "import")])]
    try:
        nodes = nodes_of(module) | adapters.nodes_of(module)
    except Exception as error:
        return [_answer("", None, [failure.remote_error(error, "import")])]
    return [_described(target) for target in nodes.values()]


def _described(target: Any) -> dict[str, Any]:
    try:
        signature = Signature(target)
        adapted = signature.adapted
        problems = () if adapted is None else adapted.problems({})
        return _answer("", signature, [failure.remote_error(p, "params") for p in problems])
    except Exception as error:
        return _answer("", None, [failure.remote_error(error, "params")])


def _answer(
    node: str, signature: Signature | None, problems: list[dict[str, Any]]
) -> dict[str, Any]:
    description = None if signature is None else signature.describe()
    if description is not None:  # the schemas as JSON, not as texts that hold JSON
        description["output"] = json.loads(description["output"])
        for parameter in description["params"] + description["inputs"]:
            parameter["schema"] = json.loads(parameter["schema"])
    return {"id": node, "description": description, "problems": problems}
