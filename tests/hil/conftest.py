"""Slaves that others wrote, each a process that prints its port, and the edge's link to them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from edge.build import connect
from edge.links.connection import ModbusConnection
from edge.site import LinkConfig
from edge.timing import PlantTime

ServedBy = Callable[..., AbstractAsyncContextManager[ModbusConnection]]
"""Takes a command (and cwd, timeout_s); gives a connection to the slave that it starts."""


@asynccontextmanager
async def _served_by(
    *command: str | Path, cwd: Path | None = None, timeout_s: float = 0.5
) -> AsyncIterator[ModbusConnection]:
    server = await asyncio.create_subprocess_exec(*command, cwd=cwd, stdout=asyncio.subprocess.PIPE)
    assert server.stdout is not None
    port = int(await server.stdout.readline())
    try:
        link = LinkConfig(name="l", address=f"127.0.0.1:{port}", timeout_s=timeout_s)
        async with connect(link, PlantTime()) as connection, asyncio.timeout(20.0):
            await connection.wait_connected()
            yield connection
    finally:
        server.kill()
        await server.communicate()


@pytest.fixture
def served_by() -> ServedBy:
    return _served_by
