"""Modbus RTU, over a serial line or a serial server: pymodbus moves the bytes.

Its frames carry no transaction id, so what it takes for the reply may be that of an earlier
request; the connection is made anew after each time-out (`ModbusConnection`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from pymodbus import FramerType
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import DecodePDU

# The connection's own deadline decides; pymodbus's later one only bounds its connect.
_LATER_S = 1.0


class RtuClient:
    """A pymodbus client behind the interface of `edge.links.client.Client`.

    Args:
        client: Not connected yet.
        timeout_s: Wall seconds for one reply.
    """

    def __init__(self, client: ModbusBaseClient, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._decoder = DecodePDU(is_server=True)
        self._deadline: asyncio.Timeout | None = None
        self._down = False

    async def connect(self) -> bool:
        """Connect; False when nobody is there."""
        connected: bool = await self._client.connect()
        _raise_swallowed_cancellation()
        return connected and not self._down

    async def ask(self, unit: int, request: bytes) -> bytes:
        """Send one request and return its reply; see `Client`."""
        message = self._decoder.decode(request)
        assert message is not None, "the request was made by edge.links.pdu"
        message.dev_id = unit
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                self._deadline = deadline
                try:
                    reply = await self._client.execute(False, message)
                finally:
                    self._deadline = None
        except (ModbusException, TimeoutError) as error:
            if self._down:
                raise ConnectionResetError(str(error)) from error
            raise TimeoutError(str(error)) from error
        _raise_swallowed_cancellation()
        if reply.dev_id != unit:
            raise TimeoutError(f"asked unit {unit}, answered as {reply.dev_id}")
        encoded: bytes = reply.encode()
        return bytes((reply.function_code,)) + encoded

    def close(self) -> None:
        """Let go of the line."""
        self._client.close()

    def went_down(self) -> None:
        """Tell whoever waits for a reply now, not at the time-out."""
        self._down = True
        if self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())


def _raise_swallowed_cancellation() -> None:
    """Be cancelled after all, if a reply and the cancellation came in the same instant.

    Until Python 3.12 `asyncio.wait_for`, in which pymodbus waits, then returns the reply and
    forgets the cancellation, and a task that loops would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _wrap(
    make: Callable[[Callable[[bool], None]], ModbusBaseClient],
    timeout_s: float,
    lost: Callable[[], None],
) -> RtuClient:
    def changed(connected: bool) -> None:
        if not connected:
            client.went_down()
            lost()

    client = RtuClient(make(changed), timeout_s)
    return client


def over_tcp(host: str, port: int, timeout_s: float, lost: Callable[[], None]) -> RtuClient:
    """Return a client of a serial server: RTU frames, checksum and all, inside TCP."""
    return _wrap(
        lambda changed: AsyncModbusTcpClient(
            host,
            port=port,
            framer=FramerType.RTU,
            timeout=timeout_s + _LATER_S,
            retries=0,
            reconnect_delay=0,
            trace_connect=changed,
        ),
        timeout_s,
        lost,
    )


def over_serial(
    path: str, baudrate: int, parity: str, timeout_s: float, lost: Callable[[], None]
) -> RtuClient:
    """Return a client over a serial line, 8 data bits."""
    return _wrap(
        lambda changed: AsyncModbusSerialClient(
            path,
            baudrate=baudrate,
            parity=parity,
            # The standard asks for two stop bits where there is no parity bit.
            stopbits=2 if parity == "N" else 1,
            timeout=timeout_s + _LATER_S,
            retries=0,
            reconnect_delay=0,
            trace_connect=changed,
        ),
        timeout_s,
        lost,
    )


def quieten() -> None:
    """Keep pymodbus from logging a line for each time-out: the edge logs transitions."""
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)
