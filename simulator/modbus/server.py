"""A Modbus/TCP server for many units on one port, or on a few.

What third-party masters need and few servers give: any number of requests in one segment are all
answered, in order; a bad header costs that frame and no other; an unknown unit is answered with
exception 0x0B; counts and lengths are checked.

Source: MODBUS Messaging on TCP/IP Implementation Guide 1.0b, sections 3.1 and 4.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Final, Self, cast

from heron.errors import TransportError
from heron.powergrid.registers.roles import Rights, rights_of
from simulator.modbus.image import ILLEGAL_FUNCTION, UnitImage
from simulator.modbus.pdu import FUNCTIONS, WRITE_FUNCTIONS, answer, expected_length
from simulator.modbus.security import ServerTls

logger = logging.getLogger(__name__)

NO_SUCH_UNIT: Final = 0x0B
_HEADER = struct.Struct(">HHHB")
_SHORTEST_LENGTH, _LONGEST_LENGTH = 2, 254
_STALE_PART_S = 2.0
"""A started frame that gets no more bytes for this long is dropped when the next ones come."""
_MOST_BAD_IN_A_ROW = 64
"""Bad frames without a good one after which the connection is closed."""


@dataclass(slots=True)
class ServerCounters:
    """What the server has done since it started.

    Attributes:
        reads: Read requests that were carried out.
        writes: Write requests that were carried out.
        refusals: Requests answered with an exception.
        bad_frames: Pieces of input that are no Modbus/TCP frame.
        connections: Connections that were opened.
    """

    reads: int = 0
    writes: int = 0
    refusals: int = 0
    bad_frames: int = 0
    connections: int = 0


class _Connection(asyncio.Protocol):
    """One master's connection."""

    def __init__(
        self,
        units: Mapping[int, UnitImage],
        counters: ServerCounters,
        open_connections: set[asyncio.Transport],
        rights: Rights | None,
    ) -> None:
        self._units = units
        self._counters = counters
        self._open = open_connections
        self._grant(Rights.NONE if rights is None else rights)
        self._asks_for_role = rights is None
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._rest_since = 0.0
        self._bad_in_a_row = 0
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes, so this cannot be asserted.
        self._transport = cast(asyncio.Transport, transport)
        self._open.add(self._transport)
        self._counters.connections += 1
        if self._asks_for_role:
            tls = transport.get_extra_info("ssl_object")
            self._grant(rights_of(tls.getpeercert(binary_form=True)))

    def _grant(self, rights: Rights) -> None:
        self._may_read = Rights.READ in rights
        self._may_write = Rights.WRITE in rights

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._open.discard(self._transport)
            self._transport = None

    def pause_writing(self) -> None:
        # A master that does not read its replies is not listened to either.
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            stale = self._loop.time() - self._rest_since > _STALE_PART_S
            if stale:
                self._bad_frame()
            else:
                data = self._rest + data
            self._rest = b""
        replies: list[bytes] = []
        at = 0
        while len(data) - at >= _HEADER.size:
            transaction, protocol, length, unit_id = _HEADER.unpack_from(data, at)
            end = at + 6 + length
            if protocol != 0 or not _SHORTEST_LENGTH <= length <= _LONGEST_LENGTH:
                at = self._resynchronise(data, at)
                continue
            if end > len(data):
                if _cannot_be(data[at + 7 :], length - 1):
                    at = self._resynchronise(data, at)
                    continue
                break
            self._bad_in_a_row = 0
            reply = self._answer(unit_id, data[at + 7 : end])
            replies.append(_HEADER.pack(transaction, 0, 1 + len(reply), unit_id) + reply)
            at = end
        if at < len(data):
            self._rest = data[at:]
            self._rest_since = self._loop.time()
        if self._transport is None:
            return
        if replies:
            self._transport.write(b"".join(replies))
        if self._bad_in_a_row >= _MOST_BAD_IN_A_ROW:
            logger.warning("modbus_connection_closed reason=too_many_bad_frames")
            self._transport.close()

    def _answer(self, unit_id: int, request: bytes) -> bytes:
        unit = self._units.get(unit_id)
        if unit is None:
            self._counters.refusals += 1
            return bytes((request[0] | 0x80, NO_SUCH_UNIT))
        writes = request[0] in WRITE_FUNCTIONS
        if not (self._may_write if writes else self._may_read):
            self._counters.refusals += 1
            return bytes((request[0] | 0x80, ILLEGAL_FUNCTION))
        reply = answer(unit, request)
        if reply[0] & 0x80:
            self._counters.refusals += 1
        elif writes:
            self._counters.writes += 1
        else:
            self._counters.reads += 1
        return reply

    def _bad_frame(self) -> None:
        self._counters.bad_frames += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row == 1:
            logger.info("modbus_bad_frame")

    def _resynchronise(self, data: bytes, at: int) -> int:
        """Return where well-formed requests go on after a bad header; the end if nowhere.

        A place counts only if whole requests follow from there to the end of the input, each of
        the exact length that its function has: garbage must not be taken for a write.
        """
        self._bad_frame()
        dead_ends: set[int] = set()
        for start in range(at + 1, len(data) - _HEADER.size):
            if _well_formed_to_the_end(data, start, dead_ends):
                return start
        return len(data)


def _cannot_be(head: bytes, length: int) -> bool:
    """Tell whether a request that begins so cannot have the length that its header states."""
    expected = expected_length(head)
    return expected is not None and expected != length


def _well_formed_to_the_end(data: bytes, at: int, dead_ends: set[int]) -> bool:
    """Tell whether whole requests follow; remembers where not, so a long input costs no more."""
    passed = [at]
    while at < len(data):
        end = _end_of_request(data, at)
        if end is None or end in dead_ends:
            dead_ends.update(passed)
            return False
        passed.append(end)
        at = end
    return True


def _end_of_request(data: bytes, at: int) -> int | None:
    """Return where a whole, well-formed request ends; None when there is none."""
    if len(data) - at <= _HEADER.size:
        return None
    _, protocol, length, _ = _HEADER.unpack_from(data, at)
    end: int = at + 6 + length
    request = data[at + 7 : end]
    if protocol != 0 or end > len(data) or not request or request[0] not in FUNCTIONS:
        return None
    return end if expected_length(request) == len(request) else None


class ModbusServer:
    """Serves units on neighbouring ports; an async context manager.

    Args:
        units: Per port, the units by their ids.
        host: Address to listen on.
        port: First port; 0 takes free ones.
        tls: Certificates for Modbus/TCP Security; None for plain Modbus/TCP.
    """

    def __init__(
        self,
        units: Sequence[Mapping[int, UnitImage]],
        host: str = "127.0.0.1",
        port: int = 5020,
        tls: ServerTls | None = None,
    ) -> None:
        self._context = None if tls is None else tls.context()
        self._units = units
        self.host = host
        self._first_port = port
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Transport] = set()
        self.counters = ServerCounters()

    @property
    def ports(self) -> tuple[int, ...]:
        """The ports that it listens on, in the order of ``units``."""
        return tuple(s.sockets[0].getsockname()[1] for s in self._servers)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for offset, units in enumerate(self._units):
            port = self._first_port + offset if self._first_port else 0
            try:
                server = await loop.create_server(
                    partial(self._connection, units),
                    self.host,
                    port,
                    backlog=1024,
                    ssl=self._context,
                )
            except (OSError, OverflowError) as error:
                await self.close()
                raise TransportError(_cannot_listen(self.host, port, error)) from error
            self._servers.append(server)
        return self

    def _connection(self, units: Mapping[int, UnitImage]) -> _Connection:
        # Without TLS nobody can tell masters apart: all may do everything.
        rights = Rights.READ | Rights.WRITE if self._context is None else None
        return _Connection(units, self.counters, self._open, rights)

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop listening and drop all connections."""
        for server in self._servers:
            server.close()
        for transport in list(self._open):
            transport.abort()
        for server in self._servers:
            await server.wait_closed()
        self._servers.clear()


def _cannot_listen(host: str, port: int, error: OSError | OverflowError) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        why = "the port is in use"
    elif number is not None and number > 0:
        why = os.strerror(number)
    else:
        why = str(error)
    return f"cannot listen on {host}:{port}: {why}"
