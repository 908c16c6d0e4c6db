"""``describe``: what the nodes of a pipeline or a file take and return, as JSON.

The question is a document on standard input, the answer one on standard output;
Go's runner/describe.go has both. The code is imported, and no node is set up.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, NoReturn

from gophersnake._worker.definition.lookup import load, load_module, nodes_of
from gophersnake._worker.definition.signature import Signature
from gophersnake._worker.process import sandbox
from gophersnake._worker.serving import failure


def run() -> NoReturn:
    """Read the question, write the answer, and end the process."""
    answer_to = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a module prints while it is imported is no part of the answer
    question = json.load(sys.stdin)
    sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115 - for as long as the process
    base = question["base"]
    sandbox.know(question.get("isolation"))
    if question.get("file"):
        nodes = _file(base, question["file"])
    else:
        nodes = [_node(base, node) for node in question["nodes"]]
    with answer_to:
        json.dump({"nodes": nodes}, answer_to)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # a module may have closed it, or put None in its place
            pass
    os._exit(0)  # a module may have started threads that do not end


def _node(base: str, node: dict[str, Any]) -> dict[str, Any]:
    stage = "import"
    params, ports = node["params"] or {}, node["ports"] or []
    try:
        target = load(base, node["python"], node["node_type"])
        stage = "params"
        signature = Signature(target, params, ports)
        problems = signature.problems(params, ports)
        return _answer(node["id"], signature, [failure.remote_error(p, stage) for p in problems])
    except BaseException as error:
        return _answer(node["id"], None, [failure.remote_error(error, stage)])


def _file(base: str, file: str) -> list[dict[str, Any]]:
    try:
        module = load_module(base, file)
    except BaseException as error:
        return [_answer("", None, [failure.remote_error(error, "import")])]
    return [_described(target) for target in nodes_of(module).values()]


def _described(target: Any) -> dict[str, Any]:
    try:
        return _answer("", Signature(target), [])
    except Exception as error:
        return _answer("", None, [failure.remote_error(error, "params")])


def _answer(
    node: str, signature: Signature | None, problems: list[dict[str, Any]]
) -> dict[str, Any]:
    description = None if signature is None else signature.describe()
    return {"id": node, "description": description, "problems": problems}
