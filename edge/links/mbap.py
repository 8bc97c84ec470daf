"""A Modbus/TCP client: one connection, one request at a time, no allocation that is not needed.

A reply counts when its transaction and unit are those of the request that waits; any other frame
is a stray (a late reply, an echo of a confused gateway) and is dropped. A header that cannot be
one ends the connection at once: behind it no byte can be told from another. So does a time-out
in the middle of a frame. Deadlines are kept by one timer, which is moved only when it fires.

Source: MODBUS Messaging on TCP/IP Implementation Guide 1.0b, section 3.1.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import struct
from collections.abc import Callable
from typing import cast

from edge.timing import CLOSE_ENOUGH_S

logger = logging.getLogger(__name__)

_HEADER = struct.Struct(">HHHB")
_SHORTEST_LENGTH, _LONGEST_LENGTH = 3, 254
"""Of what the header counts: the unit id, a function code and at least one byte more."""


class MbapClient(asyncio.Protocol):
    """A client over TCP, or over TLS where a context is given.

    Args:
        host: Where the units answer.
        port: Its port.
        timeout_s: Wall seconds for one reply, and for the connection.
        lost: Called once when a connection that was made is gone.
        context: Certificates of Modbus/TCP Security.

    Attributes:
        strays: Frames that answered no request that was waiting.
    """

    def __init__(
        self,
        host: str,
        port: int,
        timeout_s: float,
        lost: Callable[[], None],
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.strays = 0
        self._host = host
        self._port = port
        self._timeout_s = timeout_s
        self._lost = lost
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._transaction = 0
        self._unit = 0
        self._rest = b""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    async def connect(self) -> bool:
        """Connect; False when nobody is there, or the certificates do not fit."""
        name = self._host if self._context is not None else None
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._loop.create_connection(
                    lambda: self,
                    self._host,
                    self._port,
                    ssl=self._context,
                    server_hostname=name,
                )
        except (OSError, UnicodeError) as error:  # a time-out is an OSError, too
            logger.debug("connect_failed host=%s port=%d reason=%s", self._host, self._port, error)
            return False
        return True

    def ask(self, unit: int, request: bytes) -> asyncio.Future[bytes]:
        """Send one request and return its reply; see `Client`."""
        waiting: asyncio.Future[bytes] = self._loop.create_future()
        transport = self._transport
        if transport is None:
            waiting.set_exception(ConnectionResetError("not connected"))
            return waiting
        self._transaction = transaction = self._transaction % 0xFFFF + 1
        self._unit = unit
        self._waiting = waiting
        self._due = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._on_timer)
        transport.write(_HEADER.pack(transaction, 0, len(request) + 1, unit) + request)
        return waiting

    def close(self) -> None:
        """Drop the connection."""
        self._stop_timer()
        if self._transport is not None:
            self._transport.abort()

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits, now and not at the time-out."""
        self._transport = None
        self._stop_timer()
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(ConnectionResetError("connection lost"))
        self._lost()

    def data_received(self, data: bytes) -> None:
        """Take frames out of what came in."""
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at > _HEADER.size:
            transaction, protocol, length, unit = _HEADER.unpack_from(data, at)
            if protocol or not _SHORTEST_LENGTH <= length <= _LONGEST_LENGTH:
                self._give_up("bad_header")
                return
            end = at + 6 + length
            if end > size:
                break
            waiting = self._waiting
            if waiting is not None and transaction == self._transaction and unit == self._unit:
                self._waiting = None
                if not waiting.done():
                    waiting.set_result(data[at + 7 : end])
            else:
                self.strays += 1
            at = end
        self._rest = data[at:]

    # --- deadlines ---

    def _on_timer(self) -> None:
        self._timer = None
        waiting = self._waiting
        if waiting is None:
            return
        if self._due - self._loop.time() > CLOSE_ENOUGH_S:
            self._timer = self._loop.call_at(self._due, self._on_timer)
            return
        self._waiting = None
        if not waiting.done():
            waiting.set_exception(TimeoutError())
        if self._rest:
            self._give_up("half_a_frame")

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self, reason: str) -> None:
        """Drop a connection whose bytes make no sense any more."""
        logger.warning("link_garbled host=%s port=%d reason=%s", self._host, self._port, reason)
        self._rest = b""
        if self._transport is not None:
            self._transport.abort()
