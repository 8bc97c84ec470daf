"""The edge's links over every transport, against pymodbus's servers."""

import asyncio
import os
import ssl
import time
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from pymodbus import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from edge.build import connect
from edge.links.connection import ModbusConnection
from edge.reload import SiteKeeper
from edge.site import LinkConfig, TlsConfig, load_site
from edge.timing import PlantTime
from heron.errors import ConfigError, DeviceRejected, DeviceTimeout
from heron.messaging.embedded import free_port
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import Access, Register, RegisterMap
from heron.testing.certificates import Authority, Signed
from simulator.modbus.image import UnitImage
from simulator.modbus.security import ServerTls
from simulator.modbus.server import ModbusServer

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


@dataclass(frozen=True)
class Certificates:
    """What a utility signed, and what a stranger's authority did."""

    authority: Authority
    device: Signed
    strangers: Authority
    stranger: Signed


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, rogue = Authority(folder, "root"), Authority(folder, "rogue")
    return Certificates(ours, ours.sign("device"), rogue, rogue.sign("stranger", "operator"))


@asynccontextmanager
async def tls_server(own: Certificates) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=own.authority.file)
    context.load_cert_chain(own.device.certificate, own.device.key)
    context.verify_mode = ssl.CERT_REQUIRED
    port = free_port()
    server = ModbusTlsServer(
        device(), framer=FramerType.SOCKET, sslctx=context, address=("127.0.0.1", port)
    )
    async with serving(server):
        yield port


def tls_link(port: int, who: Signed, trusts: Authority) -> LinkConfig:
    tls = TlsConfig(ca=trusts.file, cert=who.certificate, key=who.key)
    return LinkConfig(name="l", kind="tls", address=f"127.0.0.1:{port}", tls=tls)


async def test_tls_with_certificates_of_both_sides(certificates: Certificates) -> None:
    edge = certificates.authority.sign("edge", "operator")
    async with tls_server(certificates) as port:
        link = tls_link(port, edge, certificates.authority)
        async with connect(link, PlantTime()) as connection:
            await exchange(connection)


@pytest.mark.parametrize("rogue", ["edge", "device"])
async def test_a_rogue_certificate_reads_nothing(certificates: Certificates, rogue: str) -> None:
    ours, theirs = certificates.authority, certificates.strangers
    edge = ours.sign("edge2", "operator") if rogue == "device" else certificates.stranger
    async with tls_server(certificates) as port:
        link = tls_link(port, edge, theirs if rogue == "device" else ours)
        async with connect(link, PlantTime()) as connection:
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                with pytest.raises(DeviceTimeout):
                    await connection.read("d", UNIT, 100, 1)
                await asyncio.sleep(0.1)
    assert connection.counters.reads == 0


def test_a_certificate_that_is_not_there_is_one_clear_error(certificates: Certificates) -> None:
    nobody = Signed(Path("nobody.pem"), Path("nobody.key"), b"")
    with pytest.raises(ConfigError, match=r"nobody\.pem"):
        connect(tls_link(802, nobody, certificates.authority), PlantTime())


# --- roles: our emulator judges by the certificate, and the edge by its own ---


@asynccontextmanager
async def emulator(own: Certificates) -> AsyncIterator[tuple[int, UnitImage]]:
    registers = RegisterMap([Register("r", 0, 1, RegisterType.UINT16, access=Access.READ_WRITE)])
    unit = UnitImage(registers, {"r": 7}, frozenset({"r"}))
    tls = ServerTls(own.device.certificate, own.device.key, own.authority.file)
    async with ModbusServer([{UNIT: unit}], port=0, tls=tls) as server:
        yield server.ports[0], unit


@pytest.mark.parametrize(
    ("role", "reads", "writes", "says"),
    [
        ("operator", True, True, ""),
        ("viewer", True, False, "read-only"),
        ("monitor", True, False, "read-only"),
        ("janitor", False, False, "illegal function"),
        (None, False, False, "illegal function"),
    ],
)
async def test_the_role_in_the_edges_certificate_decides(
    certificates: Certificates, role: str | None, reads: bool, writes: bool, says: str
) -> None:
    edge = certificates.authority.sign(f"edge-{role}", role)
    async with emulator(certificates) as (port, unit):
        link = tls_link(port, edge, certificates.authority)
        async with connect(link, PlantTime()) as connection, asyncio.timeout(10.0):
            await connection.wait_connected()
            if reads:
                assert await connection.read("d", UNIT, 0, 1) == [7]
            else:
                with pytest.raises(DeviceRejected, match="illegal function"):
                    await connection.read("d", UNIT, 0, 1)
            if writes:
                await connection.write("d", UNIT, 0, [42])
            else:
                with pytest.raises(DeviceRejected, match=says):
                    await connection.write("d", UNIT, 0, [42])
        assert unit.value("r") == (42 if writes else 7)


@pytest.mark.parametrize("mode", ["closed_loop", "monitor"])
def test_a_device_is_not_driven_over_a_link_whose_certificate_may_only_read(
    certificates: Certificates, tmp_path: Path, mode: str
) -> None:
    certificates.authority.sign("edge-here", "monitor")
    folder = certificates.authority.file.parent
    for name in ("root.pem", "edge-here.crt", "edge-here.key"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    site = tmp_path / "site.yml"
    site.write_text(
        f"""
links:
  - name: yard
    kind: tls
    address: 127.0.0.1:802
    tls: {{ca: root.pem, cert: edge-here.crt, key: edge-here.key}}
devices:
  - {{name: a, type: PV, link: yard, unit: 1, mode: {mode}, config: {{p_rated_MW: 0.1}}}}
  - {{name: b, type: PV, link: yard, unit: 2, mode: {mode}, config: {{p_rated_MW: 0.1}}}}
"""
    )
    keeper = SiteKeeper(site, PlantTime())
    if mode == "monitor":
        keeper.prepare(load_site(site))
        return
    with pytest.raises(ConfigError, match="role that may only read") as caught:
        keeper.prepare(load_site(site))
    assert [problem.where for problem in caught.value.problems] == ["a.mode", "b.mode"]
