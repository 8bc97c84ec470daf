import asyncio
import datetime
import ssl
import struct
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heron.errors import ConfigError
from heron.powergrid.registers.codec import RegisterType
from heron.powergrid.registers.table import Access, Register, RegisterMap
from simulator.modbus.image import UnitImage
from simulator.modbus.security import ServerTls, role_of
from simulator.modbus.server import ModbusServer

ROLE = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
MAP = RegisterMap([Register("r", 0, 1, RegisterType.UINT16, access=Access.READ_WRITE)])


class Authority:
    """Signs certificates, as a utility would."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        own = self._builder(self.name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        signed = own.sign(self.key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def sign(self, name: str, role: str | None = None) -> tuple[Path, Path, bytes]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False
        )
        if role is not None:
            text = role.encode()
            value = x509.UnrecognizedExtension(ROLE, bytes([0x0C, len(text)]) + text)
            builder = builder.add_extension(value, critical=False)
        signed = builder.sign(self.key, hashes.SHA256())
        certificate, key_file = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, key_file, signed.public_bytes(serialization.Encoding.DER)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


def server_of(authority: Authority) -> ModbusServer:
    certificate, key, _ = authority.sign("server")
    unit = UnitImage(MAP, {"r": 7}, frozenset({"r"}))
    return ModbusServer([{1: unit}], port=0, tls=ServerTls(certificate, key, authority.file))


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
    certificate, key, _ = signed_by.sign(f"master-{role}", role)
    context.load_cert_chain(certificate, key)
    return context


READ, WRITE = struct.pack(">BHH", 3, 0, 1), struct.pack(">BHH", 6, 0, 42)


@pytest.mark.parametrize(
    ("role", "read", "write"),
    [
        ("operator", b"\x03\x02\x00\x07", WRITE),
        ("viewer", b"\x03\x02\x00\x07", b"\x86\x01"),
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
    assert role_of(authority.sign("a", "operator")[2]) == "operator"
    assert role_of(authority.sign("operator")[2]) is None
    assert role_of(b"\x30\x82\xff") is None
    assert role_of(b"") is None
