import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heron.errors import TransportError
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import Access, Register, RegisterMap
from simulator.modbus.image import UnitImage
from simulator.modbus.server import ModbusServer

MAP = RegisterMap(
    [Register(f"r{i}", i, 1, RegisterType.UINT16, access=Access.READ_WRITE) for i in range(200)]
)


def unit() -> UnitImage:
    return UnitImage(MAP, {f"r{i}": 1000 + i for i in range(200)}, frozenset(MAP))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[ModbusServer]:
    async with ModbusServer([{1: unit(), 2: unit()}], port=0) as running:
        yield running


class Master:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def to(cls, server: ModbusServer) -> "Master":
        return cls(*await asyncio.open_connection("127.0.0.1", server.ports[0]))

    async def reply(self) -> tuple[int, int, bytes]:
        async with asyncio.timeout(2):
            head = await self.reader.readexactly(7)
            transaction, protocol, length, unit_id = struct.unpack(">HHHB", head)
            assert protocol == 0
            return transaction, unit_id, await self.reader.readexactly(length - 1)

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


def frame(transaction: int, unit_id: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction, 0, 1 + len(pdu), unit_id) + pdu


def read(transaction: int, address: int = 0, count: int = 1, unit_id: int = 1) -> bytes:
    return frame(transaction, unit_id, struct.pack(">BHH", 3, address, count))


async def test_pipelined_requests_are_all_answered_in_order(server: ModbusServer) -> None:
    master = await Master.to(server)
    master.writer.write(b"".join(read(i, i) for i in range(50)))
    for i in range(50):
        assert await master.reply() == (i, 1, struct.pack(">BBH", 3, 2, 1000 + i))
    await master.close()


async def test_a_request_in_pieces_is_answered(server: ModbusServer) -> None:
    master = await Master.to(server)
    for byte in read(7):
        master.writer.write(bytes([byte]))
        await master.writer.drain()
        await asyncio.sleep(0)
    assert (await master.reply())[0] == 7
    await master.close()


async def test_an_unknown_unit_is_exception_11(server: ModbusServer) -> None:
    master = await Master.to(server)
    master.writer.write(read(1, unit_id=9) + read(2, unit_id=2))
    assert await master.reply() == (1, 9, b"\x83\x0b")
    assert (await master.reply())[1] == 2
    await master.close()


BAD = {
    "protocol_id": b"\x00\x01\x00\x05\x00\x06\x01\x03\x00\x00\x00\x01",
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "length_0": b"\x00\x01\x00\x00\x00\x00\x01\x03\x00\x00\x00\x01",
    "length_1": b"\x00\x01\x00\x00\x00\x01\x01",
    "length_65535": b"\x00\x01\x00\x00\xff\xff\x01\x03\x00\x00\x00\x01",
    "length_too_long": b"\x00\x01\x00\x00\x00\xc8\x01\x03\x00\x00\x00\x01",
    "zeros": bytes(40),
    "ones": b"\xff" * 300,
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_a_bad_header_does_not_jam_the_connection(server: ModbusServer, bad: bytes) -> None:
    master = await Master.to(server)
    master.writer.write(bad)
    await master.writer.drain()
    await until(lambda: server.counters.bad_frames > 0)
    for i in range(22):
        master.writer.write(read(i, i))
        assert await master.reply() == (i, 1, struct.pack(">BBH", 3, 2, 1000 + i))
    await master.close()


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
async def test_good_requests_behind_a_bad_header_in_one_segment_are_answered(
    server: ModbusServer, bad: bytes
) -> None:
    master = await Master.to(server)
    master.writer.write(bad + read(5) + read(6))
    assert (await master.reply())[0] == 5
    assert (await master.reply())[0] == 6
    assert server.counters.bad_frames >= 1
    await master.close()


async def test_a_long_chain_of_requests_behind_garbage_costs_little(server: ModbusServer) -> None:
    """Each start in the chain would walk to its end: 20,000 frames would take minutes."""
    master = await Master.to(server)
    chain = b"\xff" * 8 + b"".join(read(i) for i in range(5_000)) + b"\xff"
    connection = server._connection(server._units[0])
    began = time.process_time()
    connection.data_received(chain * 4)
    assert time.process_time() - began < 5.0
    master.writer.write(read(9))
    assert (await master.reply())[0] == 9
    await master.close()


async def test_garbage_for_ever_closes_the_connection(server: ModbusServer) -> None:
    master = await Master.to(server)
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        for _ in range(1000):
            master.writer.write(b"\xff" * 16)
            await master.writer.drain()
            await asyncio.sleep(0)
        await master.reply()
    master.writer.close()


async def test_an_unfinished_request_is_forgotten_after_a_while(
    server: ModbusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("simulator.modbus.server._STALE_PART_S", 0.0)
    master = await Master.to(server)
    master.writer.write(read(1)[:9])
    await master.writer.drain()
    second = await Master.to(server)
    second.writer.write(read(2))
    await second.reply()  # the server has surely seen the piece by now
    master.writer.write(read(3))
    assert (await master.reply())[0] == 3
    await master.close()
    await second.close()


async def test_requests_are_counted_by_what_became_of_them(server: ModbusServer) -> None:
    master = await Master.to(server)
    master.writer.write(read(1) + frame(2, 1, b"\x06\x00\x05\x00\x2a") + read(3, 999))
    for _ in range(3):
        await master.reply()
    counters = server.counters
    assert (counters.reads, counters.writes, counters.refusals) == (1, 1, 1)
    assert counters.connections == 1
    await master.close()


async def test_a_taken_port_is_one_clear_line(server: ModbusServer) -> None:
    port = server.ports[0]
    other = ModbusServer([{1: unit()}], port=port)
    with pytest.raises(TransportError, match=rf"^cannot listen on 127.0.0.1:{port}: the port is"):
        async with other:
            pass
    assert other.ports == ()


async def test_if_a_later_port_is_taken_none_stays_open() -> None:
    with socket.socket() as blocker:
        while True:
            blocker_port = _free_pair()
            try:
                blocker.bind(("127.0.0.1", blocker_port + 1))
                break
            except OSError:
                continue
        blocker.listen()
        with pytest.raises(TransportError, match=str(blocker_port + 1)):
            async with ModbusServer([{1: unit()}, {1: unit()}], port=blocker_port):
                pass
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", blocker_port)


def _free_pair() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return min(port, 65534)


async def test_an_address_that_is_not_ours_is_one_clear_line() -> None:
    with pytest.raises(TransportError, match=r"^cannot listen on 203\.0\.113\.1:0: "):
        async with ModbusServer([{1: unit()}], host="203.0.113.1", port=0):
            pass


async def test_a_master_that_does_not_read_is_not_buffered_for_ever(server: ModbusServer) -> None:
    master = await Master.to(server)
    master.writer.write(b"".join(read(i % 65536, 0, 125) for i in range(20_000)))
    other = await Master.to(server)
    for i in range(20):
        other.writer.write(read(i))
        assert (await other.reply())[0] == i
    answered = 0
    while answered < 20_000:
        assert (await master.reply())[0] == answered % 65536
        answered += 1
    await master.close()
    await other.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(read, st.integers(0, 65535), st.integers(0, 300), st.integers(0, 130)),
            st.builds(
                frame, st.integers(0, 65535), st.integers(0, 3), st.binary(min_size=1, max_size=20)
            ),
        ),
        max_size=12,
    )
)
def test_whatever_comes_in_the_next_clean_request_is_answered(pieces: list[bytes]) -> None:
    async def scenario() -> None:
        async with ModbusServer([{1: unit()}], port=0) as server:
            sent = bytearray()

            class Recorder(asyncio.Transport):
                def write(self, data: bytes | bytearray | memoryview) -> None:
                    sent.extend(data)

                def close(self) -> None:
                    pass

                def abort(self) -> None:
                    pass

            connection = server._connection(server._units[0])
            connection.connection_made(Recorder())
            for piece in pieces:
                connection.data_received(piece)
            connection._rest_since = -1e9  # a part that has been waiting for long
            sent.clear()
            connection.data_received(read(0xBEEF, 3))
            assert bytes(sent) == frame(0xBEEF, 1, struct.pack(">BBH", 3, 2, 1003))

    asyncio.run(scenario())
