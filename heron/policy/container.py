"""The policy's file: an ONNX model with our metadata, read and sealed without an ONNX library.

An ONNX file is one protobuf message. Its metadata are pairs of strings at the top level; three
of them have a fixed width, so that they can be filled in without moving anything else:

``heron.sha256``
    SHA-256 of the whole file with all three filled with zeros.
``heron.signature``
    Ed25519 signature of that digest (its 64 hex characters, ASCII), or zeros.
``heron.public_key``
    The key that made it, or zeros.

Source: onnx.proto (``ModelProto.metadata_props`` is field 14, ``StringStringEntryProto`` has
``key`` 1 and ``value`` 2); Protocol Buffers encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from heron.errors import PolicyError

MANIFEST_KEY = "heron.manifest"
DIGEST_KEY = "heron.sha256"
SIGNATURE_KEY = "heron.signature"
PUBLIC_KEY_KEY = "heron.public_key"
SEAL_WIDTHS: Mapping[str, int] = {DIGEST_KEY: 64, SIGNATURE_KEY: 128, PUBLIC_KEY_KEY: 64}
"""Metadata that are filled in afterwards, with their width in hex characters."""

_METADATA_PROPS = 14
_LENGTH_DELIMITED = 2
_FIXED_WIDTH = {1: 8, 5: 4}

Span = tuple[int, int]


def read_bytes(path: Path) -> bytes:
    """Return a policy's file.

    Raises:
        PolicyError: It cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror}") from error


def metadata(blob: bytes) -> dict[str, str]:
    """Return all metadata of an ONNX model.

    Raises:
        PolicyError: This is not an ONNX file, or it is cut short.
    """
    try:
        return {k: blob[a:b].decode() for k, (a, b) in _metadata_spans(blob).items()}
    except UnicodeDecodeError as error:
        raise PolicyError(f"metadata are not text: {error}") from error


def digest(blob: bytes) -> str:
    """Return the digest that the file should carry.

    Raises:
        PolicyError: The file has no place for its seal.
    """
    bare = bytearray(blob)
    for start, end in _seal_spans(blob).values():
        bare[start:end] = b"0" * (end - start)
    return hashlib.sha256(bare).hexdigest()


def sealed(blob: bytes) -> bytes:
    """Return the file with its digest filled in and no signature."""
    bare = with_seal(blob, {key: "0" * width for key, width in SEAL_WIDTHS.items()})
    return with_seal(bare, {DIGEST_KEY: digest(bare)})


def with_seal(blob: bytes, values: Mapping[str, str]) -> bytes:
    """Return the file with some of its seal filled in.

    Raises:
        PolicyError: The file has no place for it, or a value has the wrong width.
    """
    out = bytearray(blob)
    spans = _seal_spans(blob)
    for key, value in values.items():
        start, end = spans[key]
        if len(value) != end - start:
            raise PolicyError(f"{key} takes {end - start} characters, not {len(value)}")
        out[start:end] = value.encode("ascii")
    return bytes(out)


def _seal_spans(blob: bytes) -> dict[str, Span]:
    spans = _metadata_spans(blob)
    for key, width in SEAL_WIDTHS.items():
        start, end = spans.get(key, (0, 0))
        if end - start != width:
            raise PolicyError(f"not a policy of this project: {key} is missing or damaged")
    return {key: spans[key] for key in SEAL_WIDTHS}


def _metadata_spans(blob: bytes) -> dict[str, Span]:
    spans: dict[str, Span] = {}
    for number, start, end in _fields(blob, 0, len(blob)):
        if number != _METADATA_PROPS:
            continue
        pair = {n: (a, b) for n, a, b in _fields(blob, start, end)}
        if 1 not in pair or 2 not in pair:
            raise PolicyError("damaged: a metadata entry has no key or no value")
        a, b = pair[1]
        key = blob[a:b].decode(errors="replace")
        if key in spans:
            raise PolicyError(f"damaged: the metadata {key!r} stands there twice")
        spans[key] = pair[2]
    return spans


def _fields(blob: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (field number, start, end) of each length-delimited field of a message."""
    at = start
    while at < end:
        tag, at = _varint(blob, at, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            _, at = _varint(blob, at, end)
            continue
        if wire_type == _LENGTH_DELIMITED:
            size, at = _varint(blob, at, end)
        elif wire_type in _FIXED_WIDTH:
            size = _FIXED_WIDTH[wire_type]
        else:
            raise PolicyError("damaged, or not an ONNX file")
        if at + size > end:
            raise PolicyError("damaged: the file is cut short")
        if wire_type == _LENGTH_DELIMITED:
            yield number, at, at + size
        at += size


def _varint(blob: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = blob[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise PolicyError("damaged, or not an ONNX file")
