"""A device behind a custom map is switched on last, and never at the set-point of another time."""

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import DeviceRejected
from heron.powergrid.link import WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import MapTable, parse_map
from heron.testing.faults import FaultyPort, Frame, RegisterBank

UNIT = 1
P_SET, ENABLE = 200, 100
ENABLE_FIRST: dict[str, Any] = {
    "name": "its switch lies before its set-point",
    "points": {
        "p_mw": {"address": 10, "type": "int16", "scale": 0.001},
        "enable": {"address": ENABLE, "access": "RW"},
        "p_set_mw": {"address": P_SET, "type": "int16", "scale": 0.001, "access": "RW"},
        "q_set_mvar": {"address": 210, "type": "int16", "scale": 0.001, "access": "RW"},
        "reversion_s": {"address": 300, "access": "RW"},
    },
}
TAP_CHANGER: dict[str, Any] = {
    "name": "its switch lies behind its position",
    "points": {
        "tap": {"address": 10, "type": "int16"},
        "tap_set": {"address": 100, "type": "int16", "access": "RW"},
        "reversion_s": {"address": 150, "access": "RW"},
        "enable": {"address": 200, "access": "RW"},
    },
}


def addresses(raw: dict[str, Any], setpoint: Setpoint) -> list[int]:
    table = MapTable("bat", parse_map(raw), Setpoint(0.0))
    return [write.address for write in table.encode_setpoint(setpoint, 60.0)]


def test_the_switch_comes_last_and_what_to_go_back_to_first() -> None:
    assert addresses(ENABLE_FIRST, Setpoint(0.5, 0.1)) == [300, P_SET, 210, ENABLE]
    assert addresses(TAP_CHANGER, Setpoint(0.0, 0.0, 3)) == [150, 100, 200]


def test_a_device_that_is_to_decide_for_itself_is_switched_off_first() -> None:
    assert addresses(TAP_CHANGER, Setpoint(0.0)) == [200, 150]


@given(
    places=st.lists(st.integers(0, 40), min_size=5, max_size=5, unique=True),
    single=st.booleans(),
)
def test_wherever_its_registers_lie_nothing_of_a_command_comes_after_the_switch(
    places: list[int], single: bool
) -> None:
    names = ("p_set_mw", "q_set_mvar", "enable", "reversion_s", "remote")
    points: dict[str, Any] = {
        name: {"address": 100 + place, "type": "int16", "access": "RW"}
        for name, place in zip(names, places, strict=True)
    }
    points["remote"]["constant"] = 1
    points["p_mw"] = {"address": 10}
    raw = {"name": "m", "points": points, "one_point_a_request": single}
    writes = MapTable("bat", parse_map(raw), Setpoint(0.0)).encode_setpoint(Setpoint(5.0), 60.0)
    enable = points["enable"]["address"]
    last = writes[-1]
    assert last.address <= enable < last.address + len(last.words)
    written = [w.address + i for w in writes for i in range(len(w.words))]
    assert sorted(written) == sorted(100 + place for place in places)


class Device(RegisterBank):
    """Registers that note the order in which they were written, and may refuse some of them."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[int] = []
        self.refuses: set[int] = set()

    async def __call__(self, request: Frame) -> Frame:
        address = struct.unpack(">H", request.pdu[1:3])[0]
        if request.function != 3:
            if address in self.refuses:
                return Frame(request.transaction, request.unit, bytes([request.function | 0x80, 4]))
            self.written.append(address)
        return await super().__call__(request)


@pytest.fixture
def device() -> Device:
    device = Device()
    device.set(UNIT, P_SET, [-500 & 0xFFFF])  # from another time
    return device


@pytest.fixture
async def link(device: Device) -> AsyncIterator[ModbusDeviceLink]:
    now = asyncio.get_running_loop().time
    async with (
        FaultyPort(device, host="device", port=502),
        ModbusConnection("device:502", tcp_client("device", 502, 0.5), now=now) as connection,
    ):
        await connection.wait_connected()
        table = MapTable("bat", parse_map(ENABLE_FIRST), Setpoint(0.0))
        yield ModbusDeviceLink("bat", connection, UNIT, table, PlantTime(now), reversion_s=60.0)


async def test_a_device_never_obeys_the_old_set_point_on_the_way_to_the_new_one(
    device: Device, link: ModbusDeviceLink
) -> None:
    result = await link.write(Setpoint(0.3, 0.1))
    assert result.status is WriteStatus.WRITTEN
    assert device.written == [300, P_SET, 210, ENABLE]


@pytest.mark.parametrize("refused", [P_SET, 210, 300])
async def test_a_device_that_refuses_a_value_is_not_switched_on(
    device: Device, link: ModbusDeviceLink, refused: int
) -> None:
    device.refuses = {refused}
    for _ in range(3):
        with pytest.raises(DeviceRejected):
            await link.write(Setpoint(0.3, 0.1))
    assert ENABLE not in device.written
    assert device.get(UNIT, ENABLE, 1) == [0]
    device.refuses = set()
    assert (await link.write(Setpoint(0.3, 0.1))).status is WriteStatus.WRITTEN
    assert device.get(UNIT, ENABLE, 1) == [1]
