"""Slaves that others wrote, with the edge's link to them, and the deployed loop in a command."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.build import connect
from edge.links.connection import ModbusConnection
from edge.site import LinkConfig
from edge.timing import PlantTime

MASTERS = Path(__file__).parents[1] / "contract" / "masters"

RunHeadless = Callable[..., tuple[dict[str, Any], list[dict[str, Any]]]]
"""Takes the options of `heron up`; gives its report and the lines of its recording."""


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


@pytest.fixture(scope="session")
def libmodbus_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slave in C on libmodbus, compiled once."""
    source = Path(__file__).with_name("libmodbus_server.c")
    program = tmp_path_factory.mktemp("libmodbus") / "server"
    flags = ["-I/usr/include/modbus", "-lmodbus"]
    subprocess.run(["cc", "-O1", "-o", program, source, *flags], check=True)
    return program


@pytest.fixture
async def libmodbus_slave(libmodbus_program: Path) -> AsyncIterator[ModbusConnection]:
    async with _served_by(libmodbus_program) as connection:
        yield connection


@pytest.fixture
async def node_slave() -> AsyncIterator[ModbusConnection]:
    """A slave on npm's modbus-serial, which answers out of turn."""
    async with _served_by("node", "serve.js", cwd=MASTERS, timeout_s=1.0) as connection:
        yield connection


@pytest.fixture
def run_headless(tmp_path: Path) -> RunHeadless:
    """Run the deployed loop to its end, as fast as it goes."""

    def run(**options: object) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        report, recording = tmp_path / "report.json", tmp_path / "recording.jsonl"
        told = {"report": report, "record": recording, "runs": tmp_path / "runs", **options}
        words = [word for key, value in told.items() for word in (f"--{key}", str(value))]
        command = [sys.executable, "-m", "heron.cli.main", "up", "--headless", "--pace", "max"]
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = recording.read_text().splitlines()
        return json.loads(report.read_text()), [json.loads(line) for line in lines]

    return run
