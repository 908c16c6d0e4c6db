"""Peer of the section serve: FastAPI and a ProcessPoolExecutor; its argument is the port."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request


def work(value: Any) -> Any:
    """Return the value unchanged."""
    return value


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Keep a pool while the application runs. It answers when the process of the pool does."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        await asyncio.get_running_loop().run_in_executor(pool, work, None)
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/echo")
async def echo(value: dict[str, Any], request: Request) -> Any:
    """Return the value unchanged."""
    return await asyncio.get_running_loop().run_in_executor(request.app.state.pool, work, value)


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
