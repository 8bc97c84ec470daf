import asyncio
from collections.abc import AsyncIterator

import numpy as np
import pytest

from edge.links.backoff import Backoff
from edge.links.breaker import CircuitOpen
from edge.links.connection import LinkDown, ModbusConnection
from edge.links.transports import tcp_client
from heron.errors import DeviceRejected, DeviceTimeout
from heron.testing.faults import (
    Delay,
    ExceptionReply,
    Fault,
    FaultyPort,
    Garbage,
    Mute,
    RegisterBank,
    Reset,
    ShortReply,
    WrongFunction,
    WrongTransaction,
    WrongUnit,
)

TIMEOUT_S = 0.5


def wall() -> float:
    return asyncio.get_running_loop().time()


def small_backoff(first_s: float = 0.1, cap_s: float = 2.0) -> Backoff:
    return Backoff(first_s, cap_s, np.random.default_rng(1))


def connect(port: FaultyPort, **options: object) -> ModbusConnection:
    return ModbusConnection(
        f"device:{port.port}",
        tcp_client("device", port.port, TIMEOUT_S),
        now=wall,
        timeout_s=TIMEOUT_S,
        backoff=small_backoff(),
        unit_backoff=lambda: small_backoff(1.0, 8.0),
        **options,
    )


@pytest.fixture
async def bank() -> RegisterBank:
    bank = RegisterBank()
    for unit in (1, 2):
        bank.set(unit, 100, [unit * 10 + i for i in range(4)])
    return bank


@pytest.fixture
async def port(bank: RegisterBank) -> AsyncIterator[FaultyPort]:
    async with FaultyPort(bank, host="device", port=502) as port:
        yield port


@pytest.fixture
async def connection(port: FaultyPort) -> AsyncIterator[ModbusConnection]:
    async with connect(port) as connection:
        await connection.wait_connected()
        yield connection


async def test_reads_and_writes_registers(connection: ModbusConnection, bank: RegisterBank) -> None:
    await connection.write("d", 1, 101, [7, 8])
    assert await connection.read("d", 1, 100, 4) == [10, 7, 8, 13]
    assert bank.get(1, 101, 2) == [7, 8]


@pytest.mark.parametrize(
    ("fault", "error", "text"),
    [
        (Mute(), DeviceTimeout, "no answer"),
        (Delay(0.6), DeviceTimeout, "no answer"),
        (WrongTransaction(), DeviceTimeout, "no answer"),
        (WrongUnit(), DeviceTimeout, "no answer"),
        (Reset(), LinkDown, "not connected"),
        (ShortReply(), DeviceRejected, "asked for 4 registers, got 1"),
        (WrongFunction(), DeviceRejected, "answered with 4"),
        (ExceptionReply(2), DeviceRejected, "illegal data address"),
        (ExceptionReply(6), DeviceRejected, "busy"),
        (ExceptionReply(11), DeviceRejected, "did not answer"),
    ],
)
async def test_a_faulty_reply_is_a_typed_error_within_the_timeout(
    connection: ModbusConnection,
    port: FaultyPort,
    fault: Fault,
    error: type[Exception],
    text: str,
) -> None:
    port.fault = fault
    before = wall()
    with pytest.raises(error, match=text):
        await connection.read("d", 1, 100, 4)
    assert wall() - before <= TIMEOUT_S + 1e-6
    port.fault = None
    await asyncio.sleep(2.0)
    assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_a_reset_is_noticed_at_once(connection: ModbusConnection, port: FaultyPort) -> None:
    port.fault = Reset()
    before = wall()
    with pytest.raises(LinkDown):
        await connection.read("d", 1, 100, 4)
    assert wall() - before < 0.01


async def test_garbage_does_not_jam_the_connection_for_good(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.fault = Garbage()
    with pytest.raises(DeviceTimeout):
        await connection.read("d", 1, 100, 4)
    port.fault = None
    await asyncio.sleep(2.0)
    assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_a_late_reply_is_not_taken_for_the_next_one(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.unit_faults[1] = Delay(0.6)
    with pytest.raises(DeviceTimeout):
        await connection.read("d", 1, 100, 1)
    port.unit_faults.clear()
    assert await connection.read("d", 2, 100, 1) == [20]


async def test_a_dead_unit_costs_its_neighbour_one_timeout_a_window(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.unit_faults[1] = Mute()
    waited = []
    for _ in range(60):
        before = wall()
        dead = connection.read("dead", 1, 100, 4)
        alive = connection.read("alive", 2, 100, 4)
        results = await asyncio.gather(dead, alive, return_exceptions=True)
        assert isinstance(results[0], DeviceTimeout)
        assert results[1] == [20, 21, 22, 23]
        waited.append(wall() - before)
        await asyncio.sleep(1.0 - waited[-1])
    # One time-out a window, and windows grow to 8 s.
    assert sum(w > 0.1 for w in waited) < 14
    assert max(waited) < TIMEOUT_S + 0.01
    with pytest.raises(CircuitOpen, match="next try in"):
        await connection.read("dead", 1, 100, 4)


async def test_a_dead_unit_costs_no_more_where_each_time_out_costs_the_connection(
    port: FaultyPort,
) -> None:
    """On a serial line the connection is made anew each time; the unit's window must outlive it."""
    async with connect(port, reconnect_on_silence=True) as connection:
        port.unit_faults[1] = Mute()
        asked = 0
        for _ in range(60):
            await connection.wait_connected()
            before = connection.counters.timeouts
            with pytest.raises(DeviceTimeout):
                await connection.read("dead", 1, 100, 4)
            asked += connection.counters.timeouts - before
            await asyncio.sleep(0.5)
            assert await connection.read("alive", 2, 100, 4) == [20, 21, 22, 23]
            await asyncio.sleep(0.5)
    assert 5 < asked < 14


@pytest.mark.parametrize("fault", [Garbage(), Reset()])
async def test_a_unit_whose_answer_ends_the_connection_does_so_once_a_window(
    connection: ModbusConnection, port: FaultyPort, fault: Fault
) -> None:
    port.unit_faults[1] = fault
    for _ in range(60):
        await connection.wait_connected()
        with pytest.raises(DeviceTimeout):
            await connection.read("confused", 1, 100, 4)
        await connection.wait_connected()
        assert await connection.read("alive", 2, 100, 4) == [20, 21, 22, 23]
        await asyncio.sleep(1.0)
    assert 5 < connection.counters.lost < 14


async def test_a_server_that_was_away_is_asked_about_every_unit_at_once(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.unit_faults[1] = Mute()
    with pytest.raises(DeviceTimeout):
        await connection.read("d", 1, 100, 4)
    await port.stop()
    port.unit_faults.clear()
    await port.start()
    await asyncio.sleep(0.5)
    assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_requests_keep_the_gap_that_a_device_needs(port: FaultyPort) -> None:
    async with connect(port, gap_s=0.05) as connection:
        await connection.wait_connected()
        before = wall()
        await asyncio.gather(*(connection.read("d", 1, 100, 4) for _ in range(10)))
        assert wall() - before == pytest.approx(0.5, abs=0.01)


async def test_a_peer_that_accepts_and_hangs_up_is_tried_less_and_less_often(
    bank: RegisterBank,
) -> None:
    accepted = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(wall())
        writer.close()

    async with await asyncio.start_server(hang_up, "device", 502):
        connection = ModbusConnection(
            "device:502",
            tcp_client("device", 502, TIMEOUT_S),
            now=wall,
            backoff=small_backoff(0.1, 5.0),
        )
        async with connection:
            await asyncio.sleep(60.0)
    assert 15 < len(accepted) < 30


async def test_a_unit_that_answers_again_is_taken_back(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.unit_faults[1] = Mute()
    with pytest.raises(DeviceTimeout):
        await connection.read("d", 1, 100, 4)
    port.unit_faults.clear()
    await asyncio.sleep(1.01)
    assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_a_first_connection_that_fails_is_tried_until_it_works(
    bank: RegisterBank,
) -> None:
    port = FaultyPort(bank, host="device", port=502)
    async with connect(port) as connection:
        await asyncio.sleep(5.0)
        with pytest.raises(LinkDown):
            await connection.read("d", 1, 100, 4)
        async with port:
            await asyncio.sleep(2.1)
            assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_a_killed_server_is_noticed_and_found_again(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    await port.stop()
    await asyncio.sleep(0.01)
    before = wall()
    with pytest.raises(LinkDown):
        await connection.read("d", 1, 100, 4)
    assert wall() == before
    await asyncio.sleep(30.0)
    await port.start()
    await asyncio.sleep(2.1)
    assert await connection.read("d", 1, 100, 4) == [10, 11, 12, 13]


async def test_a_connection_on_which_nothing_answers_is_made_anew(port: FaultyPort) -> None:
    async with connect(port, drop_after=3) as connection:
        await connection.wait_connected()
        port.fault = Mute()
        for unit in (1, 2, 3):
            with pytest.raises(DeviceTimeout):
                await connection.read("d", unit, 100, 4)
        await asyncio.sleep(1.0)
        assert port.connections == 2


async def test_a_read_only_connection_sends_no_write(port: FaultyPort) -> None:
    async with connect(port, read_only=True) as connection:
        await connection.wait_connected()
        with pytest.raises(DeviceRejected, match="read-only"):
            await connection.write("d", 1, 100, [1])
        await connection.read("d", 1, 100, 4)
        assert port.writes_seen() == 0


async def test_only_one_request_is_outstanding(
    connection: ModbusConnection, port: FaultyPort
) -> None:
    port.fault = Delay(0.1)
    before = wall()
    await asyncio.gather(*(connection.read("d", 1, 100, 4) for _ in range(5)))
    assert wall() - before == pytest.approx(0.5)


async def test_an_hour_of_cycles_loses_no_request(connection: ModbusConnection) -> None:
    before = wall()
    for k in range(3600):
        await connection.write("d", 1, 100, [k])
        assert await connection.read("d", 1, 100, 1) == [k]
        await asyncio.sleep(1.0)
    assert wall() - before == pytest.approx(3600.0, abs=1.0)
    assert (connection.counters.timeouts, connection.counters.lost) == (0, 0)
