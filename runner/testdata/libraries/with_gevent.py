"""A node whose standard library is patched by gevent, as its documentation says: first of all."""

from gevent import monkey

monkey.patch_all()

from typing import Any  # noqa: E402

from gophersnake import node  # noqa: E402
from green import do  # noqa: E402


@node
def work(how: dict[str, Any]) -> Any:
    return do(how)


@node
async def work_async(how: dict[str, Any]) -> Any:
    return do(how)


@node(threads=4)
def work_threads(how: dict[str, Any]) -> Any:
    return do(how)
