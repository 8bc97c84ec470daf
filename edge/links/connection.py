"""One Modbus connection: supervised, one request at a time, every reply checked.

pymodbus moves the bytes. What it leaves open is settled here: it accepts a reply with too few
registers or with another function code, never retries a first connection that failed, and
waits out the whole time-out when the peer resets in mid-request. Its exceptions stop here.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pymodbus.client.base import ModbusBaseClient
from pymodbus.exceptions import ConnectionException, ModbusException
from pymodbus.pdu import ModbusPDU

from edge.links.backoff import Backoff
from edge.links.breaker import Breaker
from edge.timing import MonotonicClock
from heron.errors import DeviceRejected, DeviceTimeout
from heron.powergrid.registers.table import Space

logger = logging.getLogger(__name__)

ClientFactory = Callable[[Callable[[bool], None]], ModbusBaseClient]
"""Makes a client that has not connected yet; is given what to call when the state changes."""

READ_FUNCTION = {Space.COIL: 1, Space.DISCRETE: 2, Space.HOLDING: 3, Space.INPUT: 4}
WRITE_COILS, WRITE_REGISTERS = 15, 16
EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "server failure",
    5: "acknowledge",
    6: "busy",
    10: "gateway path unavailable",
    11: "gateway target did not answer",
}


class LinkDown(DeviceTimeout):
    """There is no connection at the moment; the supervisor is working on it."""

    def __init__(self, device: str, address: str, timeout_s: float) -> None:
        super().__init__(device, timeout_s)
        self.args = (f"{device}: not connected to {address}",)


@dataclass(slots=True)
class LinkCounters:
    """What a connection did since it was opened."""

    reads: int = 0
    writes: int = 0
    timeouts: int = 0
    rejected: int = 0
    connects: int = 0
    lost: int = 0


def _raise_swallowed_cancellation() -> None:
    """Be cancelled after all, if a reply and the cancellation came in the same instant.

    Until Python 3.12 `asyncio.wait_for`, in which pymodbus waits, then returns the reply and
    forgets the cancellation, and a task that loops would never end.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _read(
    client: ModbusBaseClient, unit: int, address: int, count: int, space: Space
) -> Awaitable[ModbusPDU]:
    match space:
        case Space.HOLDING:
            return client.read_holding_registers(address, count=count, device_id=unit)
        case Space.INPUT:
            return client.read_input_registers(address, count=count, device_id=unit)
        case Space.COIL:
            return client.read_coils(address, count=count, device_id=unit)
        case Space.DISCRETE:
            return client.read_discrete_inputs(address, count=count, device_id=unit)


def _write(
    client: ModbusBaseClient, unit: int, address: int, values: Sequence[int], function: int
) -> Awaitable[ModbusPDU]:
    if function == WRITE_COILS:
        return client.write_coils(address, [bool(v) for v in values], device_id=unit)
    return client.write_registers(address, list(values), device_id=unit)


class ModbusConnection:
    """A connection that units share; an async context manager.

    Args:
        address: For messages, ``host:port``.
        make_client: How to make a client.
        now: Monotonic clock.
        timeout_s: Wall seconds that a unit has to answer one request.
        gap_s: Pause between two requests, for devices that need it.
        read_only: Refuse to send any write function code.
        drop_after: Time-outs in a row, over all units, after which to connect anew.
        reconnect_on_silence: Connect anew after each time-out, on transports whose frames
            carry no transaction id.
        backoff: Waits between attempts to connect.
        unit_backoff: Makes the waits of one unit's breaker.
    """

    def __init__(
        self,
        address: str,
        make_client: ClientFactory,
        *,
        now: MonotonicClock,
        timeout_s: float = 0.5,
        gap_s: float = 0.0,
        read_only: bool = False,
        drop_after: int = 6,
        reconnect_on_silence: bool = False,
        backoff: Backoff | None = None,
        unit_backoff: Callable[[], Backoff] = lambda: Backoff(0.5, 30.0),
    ) -> None:
        self.address = address
        self.read_only = read_only
        self.counters = LinkCounters()
        self._make_client = make_client
        self._now = now
        self._timeout_s = timeout_s
        self._gap_s = gap_s
        self._drop_after = 1 if reconnect_on_silence else drop_after
        self._backoff = backoff or Backoff(0.1, 5.0)
        self._unit_backoff = unit_backoff
        self._client: ModbusBaseClient | None = None
        self._turn = asyncio.Lock()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._in_flight: asyncio.Timeout | None = None
        self._breakers: dict[int, Breaker] = {}
        self._silent = 0
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """Whether requests can be sent now."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Wait until requests can be sent."""
        await self._up.wait()

    async def __aenter__(self) -> Self:
        """Start to connect; does not wait for it."""
        self._supervisor = asyncio.create_task(self._supervise(), name=f"link {self.address}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection. Writes nothing."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        self._drop()

    async def _supervise(self) -> None:
        said = False
        while True:
            self._down.clear()
            client = self._make_client(self._state_changed)
            self._client = client
            connected = await client.connect()
            _raise_swallowed_cancellation()
            if connected and not self._down.is_set():
                self._backoff.reset()
                self.counters.connects += 1
                self._silent = 0
                self._breakers.clear()
                said = False
                logger.info("link_up address=%s", self.address)
                self._up.set()
                await self._down.wait()
                logger.warning("link_lost address=%s", self.address)
            elif not said:
                said = True
                logger.warning("link_down address=%s", self.address)
            self._drop()
            await asyncio.sleep(self._backoff.next_s())

    def _state_changed(self, connected: bool) -> None:
        if connected:
            return
        self.counters.lost += self._up.is_set()
        self._up.clear()
        self._down.set()
        if self._in_flight is not None and not self._in_flight.expired():
            # The peer is gone: whoever waits for its reply is told now, not at the time-out.
            self._in_flight.reschedule(asyncio.get_running_loop().time())

    def _drop(self) -> None:
        self._up.clear()
        if self._client is not None:
            self._client.close()
            self._client = None

    async def read(
        self, device: str, unit: int, address: int, count: int, space: Space = Space.HOLDING
    ) -> list[int]:
        """Read ``count`` neighbours from ``address`` (counted from 0); bits come as 0 or 1.

        Raises:
            DeviceTimeout: No connection, no answer, or the unit's breaker is open.
            DeviceRejected: An exception code, or a reply that does not fit the request.
        """
        reply = await self._ask(
            device, unit, lambda client: _read(client, unit, address, count, space)
        )
        self.counters.reads += 1
        self._check(device, unit, reply, READ_FUNCTION[space])
        if space in (Space.COIL, Space.DISCRETE):
            if len(reply.bits) != 8 * math.ceil(count / 8):
                raise self._nonsense(device, f"asked for {count} bits, got {len(reply.bits)}")
            return [int(bit) for bit in reply.bits[:count]]
        if len(reply.registers) != count:
            raise self._nonsense(device, f"asked for {count} registers, got {len(reply.registers)}")
        return list(reply.registers)

    async def write(
        self,
        device: str,
        unit: int,
        address: int,
        values: Sequence[int],
        space: Space = Space.HOLDING,
    ) -> None:
        """Write neighbouring registers, or coils, in one request.

        Raises:
            DeviceTimeout: As `read`; whether the device took the write is not known then.
            DeviceRejected: As `read`; also on a read-only connection.
        """
        if self.read_only:
            raise DeviceRejected(device, f"{self.address} was opened read-only, nothing written")
        function = WRITE_COILS if space is Space.COIL else WRITE_REGISTERS
        reply = await self._ask(
            device, unit, lambda client: _write(client, unit, address, values, function)
        )
        self.counters.writes += 1
        self._check(device, unit, reply, function)
        if (reply.address, reply.count) != (address, len(values)):
            raise self._nonsense(
                device,
                f"wrote {len(values)} values at {address}, "
                f"the reply is for {reply.count} at {reply.address}",
            )

    async def _ask(
        self, device: str, unit: int, send: Callable[[ModbusBaseClient], Awaitable[ModbusPDU]]
    ) -> ModbusPDU:
        breaker = self._breakers.get(unit)
        if breaker is None:
            breaker = Breaker(device, self._now, self._unit_backoff())
            self._breakers[unit] = breaker
        breaker.check(self._timeout_s)
        async with self._turn:
            client = self._client
            if client is None or not self.connected:
                raise LinkDown(device, self.address, self._timeout_s)
            try:
                async with asyncio.timeout(self._timeout_s) as deadline:
                    self._in_flight = deadline
                    try:
                        reply = await send(client)
                    finally:
                        self._in_flight = None
            except ConnectionException as error:
                raise LinkDown(device, self.address, self._timeout_s) from error
            except (TimeoutError, ModbusException) as error:
                if not self.connected:
                    raise LinkDown(device, self.address, self._timeout_s) from error
                self._note_silence(breaker)
                raise DeviceTimeout(device, self._timeout_s) from error
            self._silent = 0
            breaker.answered()
            _raise_swallowed_cancellation()
            if self._gap_s:
                await asyncio.sleep(self._gap_s)
        return reply

    def _note_silence(self, breaker: Breaker) -> None:
        self.counters.timeouts += 1
        self._silent += 1
        breaker.failed()
        if self._silent >= self._drop_after:
            logger.warning("link_silent address=%s timeouts=%d", self.address, self._silent)
            self._state_changed(False)

    def _check(self, device: str, unit: int, reply: ModbusPDU, function: int) -> None:
        if reply.isError():
            self.counters.rejected += 1
            code = reply.exception_code
            raise DeviceRejected(
                device, f"exception {code:#04x} ({EXCEPTIONS.get(code, 'unknown')})", code
            )
        if reply.function_code != function:
            raise self._nonsense(
                device, f"asked with function {function}, answered with {reply.function_code}"
            )
        if reply.dev_id != unit:
            raise self._nonsense(device, f"asked unit {unit}, answered as {reply.dev_id}")

    def _nonsense(self, device: str, reason: str) -> DeviceRejected:
        self.counters.rejected += 1
        return DeviceRejected(device, reason)
