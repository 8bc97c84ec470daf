"""A broker that comes with the package: iotcore in a child process, on loopback only.

The Rust broker inside iotcore cannot be stopped, so it lives in a process of its own
(``python -m heron.messaging.embedded``) that ends when it is told to, or when the pipe from
its parent closes: a parent that is killed leaves no broker behind.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import stat
import sys
import tempfile
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

from heron.errors import BrokerUnavailable

LOOPBACK = "127.0.0.1"
_CONFIG = """
id = 0
[router]
id = 0
max_connections = 1000
max_outgoing_packet_count = 500
max_segment_size = {segment_bytes}
max_segment_count = {segments}
[v4.1]
name = "v4"
listen = "{listen}"
next_connection_delay_ms = 1
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 1000
dynamic_filters = true
"""
"""Of the broker. It keeps a log per topic filter, and by default up to gigabytes of it. A message
in a log keeps alive the buffer that it was read into, so the memory is a multiple of what the log
counts (measured: 2 to 16 times), and grows until every filter's log is full."""
_SEGMENTS = 4
LOG_BYTES = 65_536
"""Of payload that a log holds unless told otherwise: beside what the sockets hold, this is how far
a slow subscriber may lag before it loses messages. The broker then levels off after some thousand
messages a filter."""
_SMALLEST_LOG_BYTES = 4 * 1024
_ATTEMPTS = 3
_POLL_S = 0.01
_READY = b"ready\n"


def free_port(host: str = LOOPBACK) -> int:
    """Return a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class EmbeddedBroker:
    """Runs the broker while the context is entered.

    Args:
        port: TCP port; None takes a free one.
        log_bytes: Payload that it keeps for each topic filter, at least 4096: how far a slow
            subscriber may lag. Its memory levels off at some multiple of that for each filter.
        ready_s: Wall seconds that it may take to answer.

    Raises:
        ValueError: ``log_bytes`` is too small for the broker.
    """

    def __init__(
        self, port: int | None = None, *, log_bytes: int = LOG_BYTES, ready_s: float = 10.0
    ) -> None:
        if log_bytes < _SMALLEST_LOG_BYTES:
            raise ValueError(f"log_bytes is {log_bytes}, must be at least {_SMALLEST_LOG_BYTES}")
        self._wanted_port = port
        self._log_bytes = log_bytes
        self._ready_s = ready_s
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0 if port is None else port

    @property
    def url(self) -> str:
        """Address for `heron.messaging.mqtt.MqttBus`."""
        return f"mqtt://{LOOPBACK}:{self.port}"

    @property
    def pid(self) -> int:
        """Process id of the broker.

        Raises:
            BrokerUnavailable: It does not run.
        """
        if self._process is None:
            raise BrokerUnavailable(self.url, "the embedded broker does not run")
        return self._process.pid

    async def __aenter__(self) -> Self:
        """Start it, and return when it accepts connections.

        Raises:
            BrokerUnavailable: The port is taken, or it did not come up.
        """
        attempts = _ATTEMPTS if self._wanted_port is None else 1
        for attempt in range(1, attempts + 1):
            if self._wanted_port is None:
                self.port = free_port()
            try:
                await self._start()
            except BrokerUnavailable:
                # Another process may have taken the free port in between.
                if attempt == attempts:
                    raise
            else:
                break
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it and free its port."""
        await self._stop()

    async def wait(self) -> int:
        """Wait until the process ends and return its exit code."""
        return 0 if self._process is None else await self._process.wait()

    async def _start(self) -> None:
        _require_free(self.port)
        # A session of its own: Ctrl-C in a terminal must not take the broker away before
        # those who still have to say goodbye over it.
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "heron.messaging.embedded",
            "--port",
            str(self.port),
            "--log-bytes",
            str(self._log_bytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(self._ready_s):
                if await self._process.stdout.readline() != _READY:
                    code = await self._process.wait()
                    raise BrokerUnavailable(self.url, f"the embedded broker ended with {code}")
        except TimeoutError as error:
            await self._stop()
            raise BrokerUnavailable(self.url, f"no answer within {self._ready_s} s") from error
        except BaseException:
            await self._stop()
            raise

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(2.0):
                    await process.wait()
            except TimeoutError:
                process.kill()
        await process.wait()


def _require_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise BrokerUnavailable(f"mqtt://{LOOPBACK}:{port}", "the port is taken") from error


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _prepare_listener(port: int) -> None:
    """Say ready when the broker listens, with Nagle's algorithm off for whoever connects.

    The broker leaves it on: the second message of a burst then waits for the acknowledgement
    of the first, 40 ms. A connection inherits the option from its listener.
    """
    while not _set_no_delay(port):
        time.sleep(_POLL_S)
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()


def _set_no_delay(port: int) -> bool:
    """Set the option on the socket of this process that listens on a port, if there is one."""
    for fd in range(3, 256):
        with suppress(OSError):
            # Asked first: a duplicate of what is no socket would stay open.
            if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                continue
            with socket.socket(fileno=os.dup(fd)) as candidate:
                listens = candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if listens and candidate.getsockname()[1] == port:
                    candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return True
    return False


def _serve(port: int, log_bytes: int) -> None:
    from iotcore import IotCoreBroker

    logging.basicConfig(level=logging.WARNING)
    # rumqttd's tracing marks every packet as an error record.
    logging.getLogger("rumqttd").setLevel(logging.CRITICAL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    threading.Thread(target=_prepare_listener, args=(port,), daemon=True).start()
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as config:
        config.write(
            _CONFIG.format(
                listen=f"{LOOPBACK}:{port}",
                segment_bytes=log_bytes // _SEGMENTS,
                segments=_SEGMENTS,
            )
        )
        config.flush()
        broker = IotCoreBroker(config_path=config.name)
    broker.run_forever()


if __name__ == "__main__":
    _parser = argparse.ArgumentParser(description="Embedded MQTT broker, on loopback.")
    _parser.add_argument("--port", type=int, required=True)
    _parser.add_argument("--log-bytes", type=int, default=LOG_BYTES)
    _arguments = _parser.parse_args()
    _serve(_arguments.port, _arguments.log_bytes)
