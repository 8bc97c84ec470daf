"""Real brokers and a cable that can be cut, for tests of whatever speaks MQTT or TCP."""

from __future__ import annotations

import asyncio
import getpass
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from heron.errors import BrokerUnavailable
from heron.messaging.embedded import LOOPBACK, free_port

_MOSQUITTO_PLACES = ("mosquitto", "/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto")


def mosquitto_path() -> str | None:
    """Return where mosquitto is installed, or None."""
    return next((p for p in map(shutil.which, _MOSQUITTO_PLACES) if p is not None), None)


@asynccontextmanager
async def mosquitto(
    port: int | None = None, *settings: str, scheme: str = "mqtt"
) -> AsyncIterator[str]:
    """Run mosquitto on loopback with a configuration of its own; gives its URL.

    Args:
        port: None takes a free one.
        settings: Further lines of its configuration, e.g. its certificate.
        scheme: Of the URL.

    Raises:
        BrokerUnavailable: It is not installed, or did not come up.
    """
    path = mosquitto_path()
    port = free_port() if port is None else port
    url = f"{scheme}://{LOOPBACK}:{port}"
    if path is None:
        raise BrokerUnavailable(url, "mosquitto is not installed")
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "mosquitto.conf"
        config.write_text(
            f"listener {port} {LOOPBACK}\nallow_anonymous true\nset_tcp_nodelay true\n"
            "persistence false\nlog_type error\n"
            # Started by root, it would become another user, who cannot read our files.
            f"user {getpass.getuser()}\n" + "".join(f"{line}\n" for line in settings)
        )
        process = await asyncio.create_subprocess_exec(
            path, "-c", str(config), stdout=asyncio.subprocess.DEVNULL
        )
        try:
            await _wait_until_open(port, process, url)
            yield url
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()


async def _wait_until_open(port: int, process: asyncio.subprocess.Process, url: str) -> None:
    for _ in range(200):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.close()
            await writer.wait_closed()
            return
        if process.returncode is not None:
            raise BrokerUnavailable(url, f"mosquitto ended with {process.returncode}")
        await asyncio.sleep(0.02)
    raise BrokerUnavailable(url, "mosquitto did not open its port")


class Cable:
    """A TCP proxy on loopback: `cut` it, `mend` it, and see what the two ends make of it."""

    def __init__(self, port: int, host: str = LOOPBACK) -> None:
        self._target = (host, port)
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._whole = True
        self.port = 0

    async def __aenter__(self) -> Self:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Cut what is left and stop listening."""
        if self._server is not None:
            self._server.close()
        self.cut()
        # Ended by the cut, not by cancelling: asyncio complains of a cancelled handler.
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Break every connection with a reset, and refuse new ones."""
        self._whole = False
        for writer in list(self._writers):
            writer.transport.abort()

    def mend(self) -> None:
        """Accept connections again."""
        self._whole = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if not self._whole or task is None:
            writer.transport.abort()
            return
        self._pumps.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._writers |= {writer, far_writer}
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(_pump(reader, far_writer))
                    group.create_task(_pump(far_reader, writer))
            finally:
                self._writers -= {writer, far_writer}
        except OSError:
            writer.transport.abort()
        finally:
            self._pumps.discard(task)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
