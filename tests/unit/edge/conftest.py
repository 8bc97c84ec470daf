import asyncio
from collections.abc import Callable, Mapping

import async_solipsism


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"virtual": async_solipsism.EventLoop}
