"""Modbus/TCP Security: mutual TLS, and what a master may do by the role in its certificate.

The role stands in the certificate's extension 1.3.6.1.4.1.50316.802.1 as a UTF-8 string. A master
without a role, or with an unknown one, is answered with exception 1 whatever it asks.

Source: MODBUS/TCP Security Protocol Specification v21, sections 7.3 and 8.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path
from typing import Final

from heron.errors import ConfigError, ConfigProblem

_ROLE_OID: Final = bytes.fromhex("2b0601040183890c862201")
_SEQUENCE, _OID, _OCTETS, _UTF8, _EXTENSIONS = 0x30, 0x06, 0x04, 0x0C, 0xA3


class Rights(Flag):
    """What a master may ask for."""

    NONE = 0
    READ = auto()
    WRITE = auto()


ROLES: Final = {"viewer": Rights.READ, "operator": Rights.READ | Rights.WRITE}


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The server's certificate, its key, and who signs the masters' certificates."""

    certificate: Path
    key: Path
    masters_ca: Path

    def context(self) -> ssl.SSLContext:
        """Return what the server listens with: TLS 1.2 or newer, a certificate is required.

        Raises:
            ConfigError: A file cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_cert_chain(self.certificate, self.key)
            context.load_verify_locations(self.masters_ca)
        except (OSError, ssl.SSLError) as error:
            files = f"{self.certificate}, {self.key}, {self.masters_ca}"
            raise ConfigError(
                [ConfigProblem("--tls", files, f"cannot be used: {error}")]
            ) from error
        return context


def rights_of(certificate: bytes | None) -> Rights:
    """Return what the holder of a certificate (DER) may do."""
    role = None if certificate is None else role_of(certificate)
    return ROLES.get(role or "", Rights.NONE)


def role_of(certificate: bytes) -> str | None:
    """Return the role that a certificate (DER) states, or None."""
    try:
        for oid, value in _extensions(certificate):
            if oid == _ROLE_OID:
                tag, text, _ = _element(value, 0)
                return text.decode() if tag == _UTF8 else None
    except (IndexError, UnicodeDecodeError):
        return None
    return None


def _extensions(certificate: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the object id and the value of each extension."""
    _, outer, _ = _element(certificate, 0)
    _, to_be_signed, _ = _element(outer, 0)
    for tag, content in _elements(to_be_signed):
        if tag != _EXTENSIONS:
            continue
        _, sequence, _ = _element(content, 0)
        for inner_tag, extension in _elements(sequence):
            if inner_tag != _SEQUENCE:
                continue
            parts = list(_elements(extension))  # object id, [critical], value
            if parts and parts[0][0] == _OID and parts[-1][0] == _OCTETS:
                yield parts[0][1], parts[-1][1]


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        tag, content, at = _element(data, at)
        yield tag, content


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """Return tag, content and the place behind one element of DER."""
    tag, length = data[at], data[at + 1]
    at += 2
    if length & 0x80:
        size = length & 0x7F
        length = int.from_bytes(data[at : at + size], "big")
        at += size
    if at + length > len(data):
        raise IndexError("an element is longer than its data")
    return tag, data[at : at + length], at + length
