"""Roles of Modbus/TCP Security: who may do what, by the role in a certificate.

The role stands in the extension 1.3.6.1.4.1.50316.802.1 as a UTF-8 string. What a role may do is
the owner's choice; `ROLES` is ours. The emulator holds masters to it, and the edge holds itself to
it: on a link whose own certificate may only read, it writes nothing.

Source: MODBUS/TCP Security Protocol Specification v21, sections 7.3 and 8.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from enum import Flag, auto
from pathlib import Path
from typing import Final

_ROLE_OID: Final = bytes.fromhex("2b0601040183890c862201")
_SEQUENCE, _OID, _OCTETS, _UTF8, _EXTENSIONS = 0x30, 0x06, 0x04, 0x0C, 0xA3
_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


class Rights(Flag):
    """What a master may ask for."""

    NONE = 0
    READ = auto()
    WRITE = auto()


ROLES: Final[Mapping[str, Rights]] = {
    "viewer": Rights.READ,
    "monitor": Rights.READ,
    "operator": Rights.READ | Rights.WRITE,
}
"""What each role may do; a role that is not here may do nothing."""


def rights_of(certificate: bytes | None) -> Rights:
    """Return what the holder of a certificate (DER) may do."""
    role = None if certificate is None else role_of(certificate)
    return ROLES.get(role or "", Rights.NONE)


def role_in(path: Path) -> str | None:
    """Return the role that the first certificate of a PEM file states.

    None where it states none, or where there is no certificate to be read.
    """
    try:
        text = path.read_text(encoding="ascii")
        _, begin, rest = text.partition(_BEGIN)
        body, end, _ = rest.partition(_END)
        return role_of(ssl.PEM_cert_to_DER_cert(begin + body + end)) if end else None
    except (OSError, ValueError):
        return None


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
