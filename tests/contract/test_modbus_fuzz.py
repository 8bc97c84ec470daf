"""Scapy's idea of Modbus, with random fields, against the emulator's server.

Whatever comes, the server answers what it must, stays in step with the connection, and what no
master may write stays as it was.
"""

import asyncio
import math
import random
import struct
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
import scapy.contrib.modbus as scapy_modbus
from scapy.packet import Packet, fuzz

from heron.powergrid.registers import site_plan
from heron.powergrid.setups import read_setup
from simulator.modbus.image import UnitImage
from simulator.modbus.pdu import FUNCTIONS
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite

FRAMES = 300
PROBE = bytes.fromhex("abcd 0000 0006 01 03 9c40 0002")
"""Reads the SunSpec marker of unit 1."""
ANSWER = (0xABCD, 1, b"\x03\x04SunS")
LONGEST_LENGTH = 254
CONTROLS = ("704.", "715.", "advance")
"""Models, and a point of the clock, that masters may write to."""
ADDRESSES = ("startAddr", "registerAddr", "refAddr", "writeStartingAddr")
"""Scapy's names of the field that says where to write."""

REQUESTS: dict[str, type[Packet]] = {
    name.removeprefix("ModbusPDU").removesuffix("Request"): kind
    for name, kind in vars(scapy_modbus).items()
    if name.startswith("ModbusPDU") and name.endswith("Request")
}


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Scapy draws from Python's shared generator; give it back as it was."""
    before = random.getstate()
    random.seed(5)
    yield
    random.setstate(before)


@pytest.fixture
def site() -> EmulatedSite:
    config = read_setup("ieee34_ieee13").config
    idle = {name: unit.table.safe for name, unit in site_plan(config).devices.items()}
    return EmulatedSite(site_plan(config), idle, advance=lambda step: False)


@pytest_asyncio.fixture
async def server(site: EmulatedSite) -> AsyncIterator[ModbusServer]:
    """A server after which no callback of the event loop may have failed."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    before = read_only(site)
    async with ModbusServer(site.units, port=0) as running:
        yield running
    assert failures == []
    assert read_only(site) == before
    commanded = [s for p in site.setpoints().values() for s in (p.p_mw, p.q_mvar)]
    assert all(math.isfinite(value) for value in commanded)


def units(site: EmulatedSite) -> dict[int, UnitImage]:
    (port,) = site.units
    return port


def read_only(site: EmulatedSite) -> dict[tuple[int, str], object]:
    return {
        (unit_id, name): unit.value(name)
        for unit_id, unit in units(site).items()
        for name in unit.registers
        if not name.startswith(CONTROLS)
    }


def controls(unit: UnitImage) -> list[int]:
    return [r.address for name, r in unit.registers.items() if name.startswith(CONTROLS)]


def pdu_of(kind: type[Packet], unit: UnitImage) -> bytes:
    """A random request: every other one aims at the controls, some are cut short or too long.

    What is set here stays as it is, all else is scapy's choice; a function code too, where
    the class has none of its own.
    """
    packet = kind()
    if packet.funcCode:
        packet.setfieldval("funcCode", packet.funcCode)
    if random.random() < 0.5:
        for field in kind.fields_desc:
            if field.name in ADDRESSES:
                packet.setfieldval(field.name, random.choice(controls(unit)))
    pdu = bytes(fuzz(packet))
    if random.random() < 0.1:
        pdu = (pdu + random.randbytes(8))[: random.randrange(1, len(pdu) + 8)]
    return pdu


def frame(transaction: int, unit_id: int, pdu: bytes) -> bytes:
    header = scapy_modbus.ModbusADURequest(transId=transaction, unitId=unit_id, len=1 + len(pdu))
    return bytes(header) + pdu


class Master:
    """One connection, on which replies are read as frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: ModbusServer) -> "Master":
        return cls(*await asyncio.open_connection("127.0.0.1", server.ports[0]))

    async def reply(self) -> tuple[int, int, bytes]:
        async with asyncio.timeout(5):
            transaction, protocol, length, unit_id = struct.unpack(
                ">HHHB", await self.reader.readexactly(7)
            )
            assert protocol == 0
            return transaction, unit_id, await self.reader.readexactly(length - 1)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.mark.parametrize("name", REQUESTS)
async def test_each_random_request_gets_its_one_answer(
    server: ModbusServer, site: EmulatedSite, name: str
) -> None:
    kind, master = REQUESTS[name], await Master.to(server)
    devices = [unit_id for unit_id, unit in units(site).items() if controls(unit)]
    for transaction in range(FRAMES):
        unit_id = random.choice(devices)
        pdu = pdu_of(kind, units(site)[unit_id])
        master.writer.write(frame(transaction, unit_id, pdu) + PROBE)
        if 1 + len(pdu) <= LONGEST_LENGTH:
            answered, by, reply = await master.reply()
            assert (answered, by) == (transaction, unit_id)
            assert reply[0] in (pdu[0], pdu[0] | 0x80)
            assert pdu[0] in FUNCTIONS or reply == bytes((pdu[0] | 0x80, 1))
        assert await master.reply() == ANSWER
    await master.close()


@pytest.mark.parametrize("name", ["06WriteSingleRegister", "16MaskWriteRegister"])
async def test_random_writes_do_reach_registers(
    server: ModbusServer, site: EmulatedSite, name: str
) -> None:
    """Were all of them refused, the tests here would show nothing."""
    master = await Master.to(server)
    for transaction in range(FRAMES):
        master.writer.write(frame(transaction, 1, pdu_of(REQUESTS[name], units(site)[1])))
        await master.reply()
    await master.close()
    assert server.counters.writes > 5


async def test_a_random_header_of_another_protocol_costs_its_own_frame_only(
    server: ModbusServer, site: EmulatedSite
) -> None:
    master = await Master.to(server)
    for _ in range(FRAMES):
        kind = REQUESTS[random.choice(list(REQUESTS))]
        header = fuzz(scapy_modbus.ModbusADURequest(protoId=random.randrange(1, 0x10000)))
        master.writer.write(bytes(header) + pdu_of(kind, units(site)[1]) + PROBE)
        assert await master.reply() == ANSWER
    assert server.counters.bad_frames >= FRAMES
    assert server.counters.writes == 0
    await master.close()


async def test_connections_that_send_nonsense_leave_the_others_alone(
    server: ModbusServer, site: EmulatedSite
) -> None:
    """Any header, any length, in pieces of any size, and an end in the middle of it."""
    neighbour = await Master.to(server)
    for _ in range(FRAMES // 10):
        master = await Master.to(server)
        kinds = random.choices(list(REQUESTS.values()), k=10)
        header = scapy_modbus.ModbusADURequest
        stream = b"".join(bytes(fuzz(header(protoId=0))) + bytes(fuzz(kind())) for kind in kinds)
        while stream:
            cut = random.randrange(1, 64)
            master.writer.write(stream[:cut])
            stream = stream[cut:]
            neighbour.writer.write(PROBE)
            assert await neighbour.reply() == ANSWER
        master.writer.transport.abort()
    await neighbour.close()
