"""The edge's link against slaves that others wrote: libmodbus in C, and npm's modbus-serial.

The second needs ``npm ci`` in ``tests/contract/masters``. What only one of them has or lacks is
tested beside it.
"""

import asyncio

import pytest

from edge.links.connection import ModbusConnection
from heron.errors import DeviceRejected
from heron.powergrid.registers.table import Space

SLAVES = [
    pytest.param("libmodbus_slave", marks=pytest.mark.cc, id="libmodbus"),
    pytest.param("node_slave", marks=pytest.mark.node, id="modbus-serial"),
]


@pytest.fixture(params=SLAVES)
def connection(request: pytest.FixtureRequest) -> ModbusConnection:
    found: ModbusConnection = request.getfixturevalue(request.param)
    return found


async def test_registers_and_bits_of_every_table_are_read(connection: ModbusConnection) -> None:
    assert await connection.read("d", 1, 0, 64) == list(range(64))
    assert await connection.read("d", 1, 5, 3, Space.INPUT) == [1005, 1006, 1007]
    assert await connection.read("d", 1, 0, 11, Space.COIL) == [0] * 11
    assert await connection.read("d", 1, 3, 8, Space.DISCRETE) == [0] * 8


async def test_registers_and_coils_are_written(connection: ModbusConnection) -> None:
    await connection.write("d", 1, 7, [65535])
    await connection.write("d", 1, 8, [0, 32768])
    assert await connection.read("d", 1, 6, 5) == [6, 65535, 0, 32768, 10]
    await connection.write("d", 1, 2, [1, 0, 1], Space.COIL)
    assert await connection.read("d", 1, 0, 6, Space.COIL) == [0, 0, 1, 0, 1, 0]


async def test_an_address_that_it_does_not_have_is_refused(connection: ModbusConnection) -> None:
    for space in (Space.HOLDING, Space.INPUT):
        with pytest.raises(DeviceRejected, match="illegal data address") as caught:
            await connection.read("d", 1, 60, 10, space)
        assert caught.value.exception_code == 2
    assert await connection.read("d", 1, 60, 4) == [60, 61, 62, 63]


async def test_a_crowd_of_devices_each_gets_its_own_answer(connection: ModbusConnection) -> None:
    addresses = [i % 64 for i in range(200)]
    got = await asyncio.gather(*(connection.read(f"d{i}", 1, i, 1) for i in addresses))
    assert got == [[i] for i in addresses]
