"""One Modbus connection: supervised, one request at a time, every reply checked."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Self

from edge.links import pdu
from edge.links.backoff import Backoff
from edge.links.breaker import Breaker
from edge.links.client import Client, ClientFactory
from edge.links.turns import Turns
from edge.timing import MonotonicClock
from heron.errors import DeviceRejected, DeviceTimeout
from heron.powergrid.registers.table import Block, Space, Write

logger = logging.getLogger(__name__)

BIT_SPACES = (Space.COIL, Space.DISCRETE)


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
        self._client: Client | None = None
        self._turns = Turns()
        self._up = asyncio.Event()
        self._down = asyncio.Event()
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

    # --- connecting ---

    async def _supervise(self) -> None:
        said = False
        while True:
            down = self._down = asyncio.Event()
            client = self._client = self._make_client(partial(self._went_down, down))
            connected = await client.connect()
            if connected and not down.is_set():
                self.counters.connects += 1
                said = False
                logger.info("link_up address=%s", self.address)
                self._up.set()
                await down.wait()
                logger.warning("link_lost address=%s", self.address)
            else:
                # Nobody was there, so whoever comes next may be another: ask every unit again.
                self._breakers.clear()
                if not said:
                    said = True
                    logger.warning("link_down address=%s", self.address)
            self._drop()
            await asyncio.sleep(self._backoff.next_s())

    def _went_down(self, down: asyncio.Event) -> None:
        """Note that the peer is gone; ``down`` tells which of the connections it was."""
        if down is not self._down or down.is_set():
            return
        # The peer ended it and may have been restarted: units that were silent are asked again.
        self._breakers.clear()
        self._lose()

    def _lose(self) -> None:
        self.counters.lost += self._up.is_set()
        self._up.clear()
        self._silent = 0
        self._down.set()

    def _drop(self) -> None:
        self._up.clear()
        if self._client is not None:
            self._client.close()
            self._client = None

    # --- asking ---

    async def read(
        self, device: str, unit: int, address: int, count: int, space: Space = Space.HOLDING
    ) -> list[int]:
        """Read ``count`` neighbours from ``address`` (counted from 0); bits come as 0 or 1.

        Raises:
            DeviceTimeout: No connection, no answer, or the unit's breaker is open.
            DeviceRejected: An exception code, or a reply that does not fit the request.
        """
        data = await self.read_block(device, unit, Block(address, count, space))
        return [data[i] << 8 | data[i + 1] for i in range(0, len(data), 2)]

    async def read_block(self, device: str, unit: int, block: Block) -> bytes:
        """Read neighbouring registers as their bytes, high byte first; a bit as a word of 0 or 1.

        Raises:
            DeviceTimeout: As `read`.
            DeviceRejected: As `read`.
        """
        request = pdu.read_request(block.space, block.address, block.count)
        reply = await self._ask(device, unit, request)
        self.counters.reads += 1
        try:
            if block.space in BIT_SPACES:
                bits = pdu.bits_of(reply, request, block.count)
                return b"".join(bit.to_bytes(2, "big") for bit in bits)
            return pdu.registers_of(reply, request, block.count)
        except pdu.Refusal as refusal:
            raise self._rejected(device, refusal) from refusal

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
        data = b"".join(value.to_bytes(2, "big") for value in values)
        await self.write_block(device, unit, Write(address, data, space))

    async def write_block(self, device: str, unit: int, write: Write) -> None:
        """Write neighbouring registers, or coils, given as their bytes.

        Raises:
            DeviceTimeout: As `write`.
            DeviceRejected: As `write`.
        """
        self._may_write(device)
        if write.space is Space.COIL:
            request = pdu.write_bits_request(write.address, write.words)
        else:
            request = pdu.write_request(write.address, write.data)
        reply = await self._ask(device, unit, request)
        self.counters.writes += 1
        try:
            pdu.check_written(reply, request)
        except pdu.Refusal as refusal:
            raise self._rejected(device, refusal) from refusal

    async def write_and_read(self, device: str, unit: int, write: Write, block: Block) -> bytes:
        """Write registers and read others (or the same) in one request, function 23.

        Returns:
            The bytes of what was read, after the write.

        Raises:
            DeviceTimeout: As `write`.
            DeviceRejected: As `write`; with exception code 1 where the device has no function 23,
                and then nothing was written.
        """
        self._may_write(device)
        request = pdu.read_write_request(block.address, block.count, write.address, write.data)
        reply = await self._ask(device, unit, request)
        self.counters.reads += 1
        self.counters.writes += 1
        try:
            return pdu.registers_of(reply, request, block.count)
        except pdu.Refusal as refusal:
            raise self._rejected(device, refusal) from refusal

    def _may_write(self, device: str) -> None:
        if self.read_only:
            raise DeviceRejected(device, f"{self.address} was opened read-only, nothing written")

    async def _ask(self, device: str, unit: int, request: bytes) -> bytes:
        breaker = self._breakers.get(unit)
        if breaker is None:
            breaker = Breaker(device, self._now, self._unit_backoff())
            self._breakers[unit] = breaker
        if breaker.open:
            breaker.check(self._timeout_s)
        if not self._turns.take():
            await self._turns.wait()
        try:
            return await self._ask_in_turn(device, unit, request, breaker)
        finally:
            self._turns.pass_on()

    async def _ask_in_turn(self, device: str, unit: int, request: bytes, breaker: Breaker) -> bytes:
        client = self._client
        if client is None or not self._up.is_set():
            raise LinkDown(device, self.address, self._timeout_s)
        if breaker.open:  # it may have failed while others had their turn
            breaker.check(self._timeout_s)
        try:
            reply = await client.ask(unit, request)
        except TimeoutError as error:
            self._note_silence(breaker)
            raise DeviceTimeout(device, self._timeout_s) from error
        except ConnectionError as error:
            # It may be this unit's answer that ends the connection: it is not asked at once again.
            breaker.failed()
            self._breakers[unit] = breaker
            raise LinkDown(device, self.address, self._timeout_s) from error
        self._silent = 0
        if breaker.open:
            breaker.answered()
        if self._backoff.failures:
            self._backoff.reset()
        if self._gap_s:
            await asyncio.sleep(self._gap_s)
        return reply

    def _note_silence(self, breaker: Breaker) -> None:
        self.counters.timeouts += 1
        self._silent += 1
        breaker.failed()
        if self._silent >= self._drop_after:
            logger.warning("link_silent address=%s timeouts=%d", self.address, self._silent)
            # The units' windows stay: a dead one must not cost its neighbours more than before.
            self._lose()

    def _rejected(self, device: str, refusal: pdu.Refusal) -> DeviceRejected:
        self.counters.rejected += 1
        return DeviceRejected(device, str(refusal), refusal.code)
