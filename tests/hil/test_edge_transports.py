"""The edge's links over every transport, against pymodbus's servers."""

import asyncio
import os
import ssl
import subprocess
import time
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.build import connect
from edge.links.connection import ModbusConnection
from edge.site import LinkConfig, TlsConfig
from edge.timing import PlantTime
from heron.errors import ConfigError, DeviceTimeout
from heron.messaging.embedded import free_port

UNIT = 3


def device() -> SimDevice:
    return SimDevice(UNIT, simdata=[SimData(100, count=20, values=7, datatype=DataType.REGISTERS)])


@asynccontextmanager
async def serving(server: ModbusTcpServer | ModbusSerialServer) -> AsyncIterator[None]:
    await server.serve_forever(background=True)
    try:
        yield
    finally:
        await server.shutdown()


async def exchange(connection: ModbusConnection) -> None:
    """Read, write several registers at once, read back."""
    async with asyncio.timeout(10.0):
        await connection.wait_connected()
        assert await connection.read("d", UNIT, 100, 20) == [7] * 20
        for k in range(10):
            await connection.write("d", UNIT, 104, [k, k + 1, k + 2])
            assert await connection.read("d", UNIT, 103, 5) == [7, k, k + 1, k + 2, 7]
    assert connection.counters.timeouts == 0


async def test_tcp() -> None:
    port = free_port()
    link = LinkConfig(name="l", address=f"127.0.0.1:{port}")
    server = ModbusTcpServer(device(), address=("127.0.0.1", port))
    async with serving(server), connect(link, PlantTime()) as connection:
        await exchange(connection)


async def test_rtu_over_tcp() -> None:
    port = free_port()
    link = LinkConfig(name="l", kind="rtu_over_tcp", address=f"127.0.0.1:{port}")
    server = ModbusTcpServer(device(), framer=FramerType.RTU, address=("127.0.0.1", port))
    async with serving(server), connect(link, PlantTime()) as connection:
        await exchange(connection)


async def test_rtu_over_tcp_connects_anew_after_a_silent_unit() -> None:
    """Without transaction ids a late reply would pass for the next one."""
    late = bytes.fromhex("0303020007")  # unit 3, one register; its checksum is computed below

    async def answer_late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.append(asyncio.current_task())
        await reader.readexactly(8)
        await asyncio.sleep(0.4)
        writer.write(late + checksum(late))
        writer.close()

    answering: list[asyncio.Task[None] | None] = []
    server = await asyncio.start_server(answer_late, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = LinkConfig(name="l", kind="rtu_over_tcp", address=f"127.0.0.1:{port}", timeout_s=0.2)
    async with server:
        async with connect(link, PlantTime()) as connection:
            for unit in (UNIT, UNIT + 1):
                async with asyncio.timeout(5.0):
                    await connection.wait_connected()
                with pytest.raises(DeviceTimeout):
                    await connection.read("d", unit, 100, 1)
        asked = (task for task in answering if task is not None)
        await asyncio.gather(*asked, return_exceptions=True)
    # Each time-out cost the connection, so no late reply was there to be mistaken.
    assert connection.counters.lost == 2


def checksum(frame: bytes) -> bytes:
    crc = 0xFFFF
    for byte in frame:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ 0xA001 if crc & 1 else crc >> 1
    return crc.to_bytes(2, "little")


@asynccontextmanager
async def serial_line() -> AsyncIterator[tuple[str, str]]:
    """Two pseudo-terminals with a wire between them."""
    loop = asyncio.get_running_loop()
    (master_a, slave_a), (master_b, slave_b) = os.openpty(), os.openpty()
    ends = (master_a, master_b, slave_a, slave_b)
    for end in ends:
        tty.setraw(end)
    for source, sink in ((master_a, master_b), (master_b, master_a)):
        loop.add_reader(source, lambda s=source, t=sink: os.write(t, os.read(s, 512)))
    try:
        yield os.ttyname(slave_a), os.ttyname(slave_b)
    finally:
        for end in (master_a, master_b):
            loop.remove_reader(end)
        for end in ends:
            os.close(end)


async def test_rtu_over_a_serial_line() -> None:
    async with serial_line() as (ours, theirs):
        link = LinkConfig(name="l", kind="serial", address=ours, baudrate=115200, parity="N")
        server = ModbusSerialServer(device(), port=theirs, baudrate=115200)
        async with serving(server), connect(link, PlantTime()) as connection:
            await exchange(connection)


# --- TLS ---


def openssl(*argv: str, cwd: Path) -> None:
    subprocess.run(["openssl", *argv], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root, and certificates of a device and of two edges; one edge is of another root."""
    folder = tmp_path_factory.mktemp("certificates")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    for root in ("root", "rogue"):
        openssl(
            *("req", "-x509", *key, "-keyout", f"{root}.key", "-out", f"{root}.pem"),
            *("-subj", f"/CN={root}"),
            cwd=folder,
        )
    for name, root in (("device", "root"), ("edge", "root"), ("stranger", "rogue")):
        openssl(
            *("req", "-new", *key[:-2], "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
            cwd=folder,
        )
        (folder / "extensions").write_text("subjectAltName=IP:127.0.0.1\n")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", f"{root}.pem", "-days", "2"),
            *("-CAkey", f"{root}.key", "-CAcreateserial", "-extfile", "extensions"),
            *("-out", f"{name}.pem"),
            cwd=folder,
        )
    return folder


@asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "root.pem")
    context.load_cert_chain(folder / "device.pem", folder / "device.key")
    context.verify_mode = ssl.CERT_REQUIRED
    port = free_port()
    server = ModbusTlsServer(
        device(), framer=FramerType.SOCKET, sslctx=context, address=("127.0.0.1", port)
    )
    async with serving(server):
        yield port


def tls_link(port: int, folder: Path, who: str, root: str = "root") -> LinkConfig:
    tls = TlsConfig(
        ca=folder / f"{root}.pem", cert=folder / f"{who}.pem", key=folder / f"{who}.key"
    )
    return LinkConfig(name="l", kind="tls", address=f"127.0.0.1:{port}", tls=tls)


async def test_tls_with_certificates_of_both_sides(certificates: Path) -> None:
    async with (
        tls_server(certificates) as port,
        connect(tls_link(port, certificates, "edge"), PlantTime()) as connection,
    ):
        await exchange(connection)


@pytest.mark.parametrize(("who", "root"), [("stranger", "root"), ("edge", "rogue")])
async def test_a_rogue_certificate_reads_nothing(certificates: Path, who: str, root: str) -> None:
    async with (
        tls_server(certificates) as port,
        connect(tls_link(port, certificates, who, root), PlantTime()) as connection,
    ):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            with pytest.raises(DeviceTimeout):
                await connection.read("d", UNIT, 100, 1)
            await asyncio.sleep(0.1)
    assert connection.counters.reads == 0


def test_a_certificate_that_is_not_there_is_one_clear_error(certificates: Path) -> None:
    with pytest.raises(ConfigError, match=r"nobody\.pem"):
        connect(tls_link(802, certificates, "nobody"), PlantTime())
