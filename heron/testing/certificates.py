"""Certificates for tests of Modbus/TCP Security: an authority, and what it signs.

Needs the package cryptography (in the ``dev`` and ``signing`` extras).
"""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Signed"]

_ROLE = x509.ObjectIdentifier("1.3.6.1.4.1.50316.802.1")
_UTF8 = 0x0C


@dataclass(frozen=True, slots=True)
class Signed:
    """Files of one certificate and its private key, and the certificate as DER."""

    certificate: Path
    key: Path
    der: bytes


class Authority:
    """Signs certificates, as a utility would; they hold for a day.

    Args:
        folder: Where the files go.
        name: Its common name.

    Attributes:
        file: Its own certificate, for others to trust.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = self._builder(self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.file = folder / f"{name}.pem"
        signed = own.sign(self._key, hashes.SHA256())
        self.file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )

    def sign(self, name: str, role: str | None = None) -> Signed:
        """Sign a certificate for ``localhost`` and 127.0.0.1, with a role or without."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        places = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = self._builder(subject, key).add_extension(
            x509.SubjectAlternativeName(places), critical=False
        )
        if role is not None:
            text = role.encode()
            value = x509.UnrecognizedExtension(_ROLE, bytes([_UTF8, len(text)]) + text)
            builder = builder.add_extension(value, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        certificate, key_file = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return Signed(certificate, key_file, signed.public_bytes(serialization.Encoding.DER))
