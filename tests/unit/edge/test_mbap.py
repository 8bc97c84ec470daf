"""The Modbus/TCP client against a peer that sends whatever it is told to."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from edge.links.mbap import MbapClient

TIMEOUT_S = 0.5
REQUEST = bytes.fromhex("0300640001")
ANSWER = bytes.fromhex("03020007")


def now() -> float:
    return asyncio.get_running_loop().time()


def frame(transaction: int, unit: int, pdu: bytes, protocol: int = 0) -> bytes:
    return struct.pack(">HHHB", transaction, protocol, len(pdu) + 1, unit) + pdu


class Peer:
    """Answers each request with what ``reply`` makes of its transaction and unit."""

    def __init__(self) -> None:
        self.reply: Callable[[int, int], bytes] = lambda t, u: frame(t, u, ANSWER)
        self.pieces = 1
        self.transactions: list[int] = []
        self.writer: asyncio.StreamWriter | None = None
        self.task: asyncio.Task[None] | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer, self.task = writer, asyncio.current_task()
        try:
            while head := await reader.read(7 + len(REQUEST)):
                transaction, _, _, unit = struct.unpack_from(">HHHB", head)
                self.transactions.append(transaction)
                data = self.reply(transaction, unit)
                size = max(1, -(-len(data) // self.pieces))
                for at in range(0, len(data), size):
                    writer.write(data[at : at + size])
                    await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    peer = Peer()
    server = await asyncio.start_server(peer.serve, "device", 502)
    async with server:
        yield peer
        if peer.task is not None:
            await asyncio.wait([peer.task])


@pytest.fixture
async def lost() -> list[float]:
    return []


@pytest.fixture
async def client(peer: Peer, lost: list[float]) -> AsyncIterator[MbapClient]:
    client = MbapClient("device", 502, TIMEOUT_S, lambda: lost.append(now()))
    assert await client.connect()
    yield client
    client.close()
    await asyncio.sleep(0.1)


async def test_a_reply_is_returned_as_its_pdu(client: MbapClient) -> None:
    assert await client.ask(3, REQUEST) == ANSWER


async def test_a_reply_that_comes_byte_by_byte_is_put_together(
    client: MbapClient, peer: Peer
) -> None:
    peer.pieces = 11
    assert await client.ask(3, REQUEST) == ANSWER
    assert await client.ask(3, REQUEST) == ANSWER


async def test_strays_before_the_answer_are_dropped(client: MbapClient, peer: Peer) -> None:
    peer.reply = lambda t, u: (
        frame(t - 1, u, b"\x03\x02\x00\x01") + frame(t, u + 1, ANSWER) + frame(t, u, ANSWER)
    )
    assert await client.ask(3, REQUEST) == ANSWER
    assert client.strays == 2


@pytest.mark.parametrize(
    "reply",
    [
        lambda t, u: b"",
        lambda t, u: frame(t + 1, u, ANSWER),
        lambda t, u: frame(t, u + 1, ANSWER),
        lambda t, u: frame(0, u, ANSWER),
    ],
    ids=["silence", "transaction", "unit", "transaction 0"],
)
async def test_what_answers_no_request_ends_in_a_time_out(
    client: MbapClient, peer: Peer, lost: list[float], reply: Callable[[int, int], bytes]
) -> None:
    peer.reply = reply
    before = now()
    with pytest.raises(TimeoutError):
        await client.ask(3, REQUEST)
    assert now() - before == pytest.approx(TIMEOUT_S)
    assert not lost
    peer.reply = lambda t, u: frame(t, u, ANSWER)
    assert await client.ask(3, REQUEST) == ANSWER


async def test_a_late_reply_is_not_taken_for_the_next_one(client: MbapClient, peer: Peer) -> None:
    peer.reply = lambda t, u: b""
    with pytest.raises(TimeoutError):
        await client.ask(3, REQUEST)
    peer.reply = lambda t, u: frame(t - 1, u, b"\x03\x02\x00\x01") + frame(t, u, ANSWER)
    assert await client.ask(3, REQUEST) == ANSWER


@pytest.mark.parametrize(
    "reply",
    [
        lambda t, u: frame(t, u, ANSWER, protocol=1),
        lambda t, u: struct.pack(">HHHB", t, 0, 0, u) + ANSWER,
        lambda t, u: struct.pack(">HHHB", t, 0, 2, u) + ANSWER,
        lambda t, u: struct.pack(">HHHB", t, 0, 255, u) + ANSWER,
        lambda t, u: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["protocol", "length 0", "length 2", "length 255", "http"],
)
async def test_a_header_that_cannot_be_one_ends_the_connection_at_once(
    client: MbapClient, peer: Peer, lost: list[float], reply: Callable[[int, int], bytes]
) -> None:
    peer.reply = reply
    before = now()
    with pytest.raises(ConnectionError):
        await client.ask(3, REQUEST)
    assert now() - before < 0.1
    assert len(lost) == 1


async def test_a_time_out_in_the_middle_of_a_frame_ends_the_connection(
    client: MbapClient, peer: Peer, lost: list[float]
) -> None:
    peer.reply = lambda t, u: frame(t, u, ANSWER)[:-1]
    with pytest.raises(TimeoutError):
        await client.ask(3, REQUEST)
    await asyncio.sleep(0.01)
    assert len(lost) == 1
    with pytest.raises(ConnectionError):
        await client.ask(3, REQUEST)


async def test_a_peer_that_goes_away_is_told_at_once(
    client: MbapClient, peer: Peer, lost: list[float]
) -> None:
    peer.reply = lambda t, u: b""
    asked = client.ask(3, REQUEST)
    await asyncio.sleep(0.05)
    assert peer.writer is not None
    peer.writer.transport.abort()
    before = now()
    with pytest.raises(ConnectionError):
        await asked
    assert now() - before < 0.1
    assert len(lost) == 1


async def test_each_request_has_the_whole_time_out(client: MbapClient, peer: Peer) -> None:
    """One timer serves them all; it was started for the first."""
    assert await client.ask(3, REQUEST) == ANSWER
    await asyncio.sleep(0.4 * TIMEOUT_S)
    peer.reply = lambda t, u: b""
    before = now()
    with pytest.raises(TimeoutError):
        await client.ask(3, REQUEST)
    assert now() - before == pytest.approx(TIMEOUT_S)


async def test_transaction_ids_rise_and_are_never_zero(client: MbapClient, peer: Peer) -> None:
    for _ in range(3):
        await client.ask(3, REQUEST)
    client._transaction = 0xFFFE
    for _ in range(3):
        await client.ask(3, REQUEST)
    assert peer.transactions == [1, 2, 3, 0xFFFF, 1, 2]


async def test_a_request_that_was_given_up_leaves_the_next_one_alone(
    client: MbapClient, peer: Peer
) -> None:
    asked = client.ask(3, REQUEST)
    asked.cancel()
    assert await client.ask(3, REQUEST) == ANSWER


async def test_garbage_of_any_kind_is_never_taken_for_the_answer(peer: Peer) -> None:
    rng = np.random.default_rng(5)
    for _ in range(200):
        client = MbapClient("device", 502, TIMEOUT_S, lambda: None)
        assert await client.connect()
        asked = client.ask(3, REQUEST)
        answer = frame(1, 3, ANSWER)
        for _ in range(20):
            piece = rng.bytes(int(rng.integers(1, 40)))
            client.data_received(piece if rng.random() < 0.7 else answer[: int(rng.integers(10))])
        if asked.done() and asked.exception() is None:
            assert len(asked.result()) >= 2
        asked.cancel()
        client.close()
        await asyncio.sleep(0.02)


async def test_nobody_there_is_no_error_but_false() -> None:
    client = MbapClient("nowhere", 502, TIMEOUT_S, lambda: None)
    assert not await client.connect()
    with pytest.raises(ConnectionError):
        await client.ask(3, REQUEST)
