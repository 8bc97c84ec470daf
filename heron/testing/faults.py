"""A Modbus/TCP port that misbehaves on purpose, per unit, and records what it saw.

It answers from registers in memory, or stands before a real server and forwards to it. Use it
to see what a master does when a device is mute, slow, confused or gone; and, without faults,
as a recorder of which function codes go over the wire.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

__all__ = [
    "WRITE_FUNCTIONS",
    "Delay",
    "ExceptionReply",
    "Fault",
    "FaultyPort",
    "Frame",
    "Garbage",
    "Mute",
    "RegisterBank",
    "Reset",
    "ShortReply",
    "WrongFunction",
    "WrongTransaction",
    "WrongUnit",
]

WRITE_FUNCTIONS: Final = frozenset({5, 6, 15, 16, 22, 23})
"""Modbus function codes that write."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One Modbus/TCP frame: transaction, unit, and the PDU that begins with the function."""

    transaction: int
    unit: int
    pdu: bytes

    @property
    def function(self) -> int:
        """The function code."""
        return self.pdu[0]

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return struct.pack(">HHHB", self.transaction, 0, len(self.pdu) + 1, self.unit) + self.pdu

    @classmethod
    async def receive(cls, reader: asyncio.StreamReader) -> Frame:
        """Read one frame.

        Raises:
            asyncio.IncompleteReadError: The peer is gone.
        """
        head = await reader.readexactly(7)
        transaction, _, length, unit = struct.unpack(">HHHB", head)
        return cls(transaction, unit, await reader.readexactly(length - 1))


@dataclass(frozen=True, slots=True)
class Mute:
    """No answer at all."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The answer comes late."""

    by_s: float


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset in mid-request."""


@dataclass(frozen=True, slots=True)
class WrongTransaction:
    """The answer carries another transaction id."""


@dataclass(frozen=True, slots=True)
class WrongUnit:
    """The answer carries another unit id."""


@dataclass(frozen=True, slots=True)
class ShortReply:
    """A read is answered, consistently, with one register only."""


@dataclass(frozen=True, slots=True)
class WrongFunction:
    """A read of holding registers is answered as one of input registers."""


@dataclass(frozen=True, slots=True)
class ExceptionReply:
    """The answer is a Modbus exception, and nothing is carried out."""

    code: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """The answer is not Modbus."""


Fault = (
    Mute
    | Delay
    | Reset
    | WrongTransaction
    | WrongUnit
    | ShortReply
    | WrongFunction
    | ExceptionReply
    | Garbage
)


class RegisterBank:
    """Holding registers of many units, in memory; answers functions 3, 6 and 16."""

    def __init__(self) -> None:
        self.units: dict[int, dict[int, int]] = {}

    def set(self, unit: int, address: int, values: list[int]) -> None:
        """Put registers; the unit exists from now on."""
        bank = self.units.setdefault(unit, {})
        bank.update({address + i: v for i, v in enumerate(values)})

    def get(self, unit: int, address: int, count: int) -> list[int]:
        """Return registers; those never put are 0."""
        bank = self.units.get(unit, {})
        return [bank.get(address + i, 0) for i in range(count)]

    async def __call__(self, request: Frame) -> Frame:
        """Answer one request."""
        unit, pdu = request.unit, request.pdu
        if unit not in self.units:
            return Frame(request.transaction, unit, bytes([pdu[0] | 0x80, 0x0B]))
        address, second = struct.unpack(">HH", pdu[1:5])
        match pdu[0]:
            case 3:
                values = self.get(unit, address, second)
                data = struct.pack(f">BB{second}H", 3, 2 * second, *values)
            case 6:
                self.set(unit, address, [second])
                data = pdu
            case 16:
                self.set(unit, address, list(struct.unpack(f">{second}H", pdu[6:])))
                data = pdu[:5]
            case other:
                data = bytes([other | 0x80, 1])
        return Frame(request.transaction, unit, data)


Answer = Callable[[Frame], Awaitable[Frame | None]]


class FaultyPort:
    """A Modbus/TCP port with faults; an async context manager.

    Args:
        answer: Answers requests, a `RegisterBank` for instance; or (host, port) of a real
            server to forward to.
        host: Address to listen on.
        port: Port to listen on; 0 for a free one.

    Attributes:
        fault: What is wrong with every unit; None for nothing.
        unit_faults: What is wrong with single units (None: nothing); wins over ``fault``.
        function_faults: What is wrong with single function codes; wins over both.
        seen: Requests by (unit, function code).
    """

    def __init__(
        self, answer: Answer | tuple[str, int], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.fault: Fault | None = None
        self.unit_faults: dict[int, Fault | None] = {}
        self.function_faults: dict[int, Fault | None] = {}
        self.seen: Counter[tuple[int, int]] = Counter()
        self.connections = 0
        self._answer = answer
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self._clients: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    def writes_seen(self) -> int:
        """Return how many requests with a write function code came."""
        return sum(n for (_, function), n in self.seen.items() if function in WRITE_FUNCTIONS)

    async def __aenter__(self) -> Self:
        """Listen."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close every connection and stop listening."""
        await self.stop()

    async def start(self) -> None:
        """Listen (again), on the same port as before."""
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Go away as a killed server would: connections are reset."""
        if self._server is None:
            return
        self._server.close()
        tasks = [task for task in self._clients.values() if task is not None]
        for writer in self._clients:
            writer.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._clients[writer] = asyncio.current_task()
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        try:
            if isinstance(self._answer, tuple):
                upstream = await asyncio.open_connection(*self._answer)
            while True:
                request = await Frame.receive(reader)
                self.seen[(request.unit, request.function)] += 1
                fault = self._fault_of(request)
                if isinstance(fault, Reset):
                    writer.transport.abort()
                    return
                refused = isinstance(fault, ExceptionReply)
                reply = request if refused else await self._reply(request, upstream)
                if isinstance(fault, Delay):
                    await asyncio.sleep(fault.by_s)
                if reply is not None and not isinstance(fault, Mute):
                    writer.write(_spoil(reply, fault))
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            del self._clients[writer]
            for one in (writer, upstream[1] if upstream else None):
                if one is not None:
                    one.close()
                    with contextlib.suppress(ConnectionError):
                        await one.wait_closed()

    def _fault_of(self, request: Frame) -> Fault | None:
        of_unit = self.unit_faults.get(request.unit, self.fault)
        return self.function_faults.get(request.function, of_unit)

    async def _reply(
        self,
        request: Frame,
        upstream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None,
    ) -> Frame | None:
        if upstream is None:
            assert not isinstance(self._answer, tuple)
            return await self._answer(request)
        upstream[1].write(request.encode())
        return await Frame.receive(upstream[0])


def _spoil(reply: Frame, fault: Fault | None) -> bytes:
    transaction, unit, pdu = reply.transaction, reply.unit, reply.pdu
    match fault:
        case WrongTransaction():
            transaction = (transaction + 77) & 0xFFFF
        case WrongUnit():
            unit = (unit + 1) & 0xFF
        case ShortReply() if pdu[0] == 3:
            pdu = bytes([3, 2]) + pdu[2:4]
        case WrongFunction() if pdu[0] == 3:
            pdu = bytes([4]) + pdu[1:]
        case ExceptionReply(code):
            pdu = bytes([pdu[0] | 0x80, code])
        case Garbage():
            return b"\x00\x00\xde\xad\x00\x00\x00" + b"HTTP/1.1 400 Bad Request\r\n\r\n"
        case _:
            pass
    return Frame(transaction, unit, pdu).encode()
