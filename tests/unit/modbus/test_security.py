import asyncio
import ssl
import struct
from pathlib import Path

import pytest

from heron.errors import ConfigError
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.roles import role_in, role_of
from heron.powergrid.registers.table import Access, Register, RegisterMap
from heron.testing.certificates import Authority
from simulator.modbus.image import UnitImage
from simulator.modbus.security import ServerTls
from simulator.modbus.server import ModbusServer

MAP = RegisterMap([Register("r", 0, 1, RegisterType.UINT16, access=Access.READ_WRITE)])


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def server_of(authority: Authority) -> ModbusServer:
    own = authority.sign("server")
    unit = UnitImage(MAP, {"r": 7}, frozenset({"r"}))
    return ModbusServer(
        [{1: unit}], port=0, tls=ServerTls(own.certificate, own.key, authority.file)
    )


async def ask(server: ModbusServer, context: ssl.SSLContext, pdu: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", server.ports[0], ssl=context, server_hostname="localhost"
    )
    request = struct.pack(">HHHB", 1, 0, 1 + len(pdu), 1) + pdu
    writer.write(request[:5])
    await writer.drain()
    writer.write(request[5:])  # a request may come in two records
    async with asyncio.timeout(5):
        reply = await reader.read(100)
    writer.close()
    await writer.wait_closed()
    if not reply:
        raise ConnectionError("closed")
    return reply[7:]


def master(authority: Authority, role: str | None, signed_by: Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    own = signed_by.sign(f"master-{role}", role)
    context.load_cert_chain(own.certificate, own.key)
    return context


READ, WRITE = struct.pack(">BHH", 3, 0, 1), struct.pack(">BHH", 6, 0, 42)


@pytest.mark.parametrize(
    ("role", "read", "write"),
    [
        ("operator", b"\x03\x02\x00\x07", WRITE),
        ("viewer", b"\x03\x02\x00\x07", b"\x86\x01"),
        ("monitor", b"\x03\x02\x00\x07", b"\x86\x01"),
        ("janitor", b"\x83\x01", b"\x86\x01"),
        (None, b"\x83\x01", b"\x86\x01"),
    ],
)
async def test_the_role_in_the_certificate_decides(
    authority: Authority, role: str | None, read: bytes, write: bytes
) -> None:
    async with server_of(authority) as server:
        context = master(authority, role, authority)
        assert await ask(server, context, READ) == read
        assert await ask(server, context, WRITE) == write


async def test_a_master_without_a_certificate_is_not_heard(authority: Authority) -> None:
    async with server_of(authority) as server:
        context = ssl.create_default_context(cafile=str(authority.file))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(server, context, READ)
        assert server.counters.reads == 0


async def test_a_certificate_of_another_authority_is_not_heard(
    authority: Authority, tmp_path: Path
) -> None:
    rogue = Authority(tmp_path, "rogue")
    async with server_of(authority) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(server, master(authority, "operator", rogue), READ)
        assert server.counters.reads == 0


async def test_files_that_are_no_certificates_are_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "x.pem"
    file.write_text("nothing")
    with pytest.raises(ConfigError, match="cannot be used"):
        ModbusServer([{}], tls=ServerTls(file, file, file))


def test_the_role_is_found_in_the_extension_only(authority: Authority) -> None:
    assert role_of(authority.sign("a", "operator").der) == "operator"
    assert role_of(authority.sign("operator").der) is None
    assert role_of(b"\x30\x82\xff") is None
    assert role_of(b"") is None


def test_the_role_is_read_from_a_file_that_holds_a_key_and_a_chain_too(
    authority: Authority, tmp_path: Path
) -> None:
    own = authority.sign("a", "monitor")
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(
        own.key.read_text() + own.certificate.read_text() + authority.file.read_text()
    )
    assert role_in(bundle) == "monitor"
    assert role_in(authority.file) is None
    assert role_in(own.key) is None
    assert role_in(tmp_path / "nobody.pem") is None
