"""Signatures of policy files: Ed25519 over the file's digest.

Needs the package ``cryptography`` (extra ``signing``), imported only when a key is used.
"""

from __future__ import annotations

from pathlib import Path

from heron.errors import PolicyError
from heron.policy import container


def new_key(path: Path) -> str:
    """Write a new private key (PEM, readable by its owner only) and return its public key.

    Raises:
        PolicyError: The file exists.
    """
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        path.touch(mode=0o600, exist_ok=False)
    except OSError as error:
        raise PolicyError(f"{path}: {error.strerror}") from error
    path.write_bytes(pem)
    return key.public_key().public_bytes_raw().hex()


def sign(blob: bytes, key_path: Path) -> bytes:
    """Return the policy file signed with a private key.

    Raises:
        PolicyError: The file is damaged, or the key is not an Ed25519 key.
    """
    _require()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    try:
        key = serialization.load_pem_private_key(container.read_bytes(key_path), password=None)
    except (ValueError, TypeError) as error:
        raise PolicyError(f"{key_path}: not a private key: {error}") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise PolicyError(f"{key_path}: not an Ed25519 key")
    file_digest = container.digest(blob)
    if container.metadata(blob)[container.DIGEST_KEY] != file_digest:
        raise PolicyError("damaged: the content does not match its digest; not signed")
    return container.with_seal(
        blob,
        {
            container.SIGNATURE_KEY: key.sign(file_digest.encode()).hex(),
            container.PUBLIC_KEY_KEY: key.public_key().public_bytes_raw().hex(),
        },
    )


def check(blob: bytes, public_key: str) -> None:
    """Refuse a file that this key did not sign.

    Args:
        blob: The policy's file; its digest must have been checked.
        public_key: 64 hex characters.

    Raises:
        PolicyError: Not signed, signed by another key, or not what was signed.
    """
    _require()
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    found = container.metadata(blob)
    if not signed_by(found):
        raise PolicyError("not signed")
    if found[container.PUBLIC_KEY_KEY] != public_key.lower():
        raise PolicyError(f"signed by another key: {found[container.PUBLIC_KEY_KEY]}")
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(found[container.SIGNATURE_KEY]), container.digest(blob).encode())
    except InvalidSignature as error:
        raise PolicyError("the signature does not belong to this file") from error
    except ValueError as error:
        raise PolicyError(f"public key {public_key!r}: {error}") from error


def signed_by(found: dict[str, str]) -> str:
    """Return the public key that a file's metadata name, or an empty string."""
    key = found.get(container.PUBLIC_KEY_KEY, "")
    return key if key.strip("0") else ""


def require_whole(found: dict[str, str]) -> None:
    """Refuse a seal of which only the key or only the signature is filled in.

    Raises:
        PolicyError: It is.
    """
    if bool(signed_by(found)) != bool(found[container.SIGNATURE_KEY].strip("0")):
        raise PolicyError("damaged: half a signature")


def _require() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError as error:
        raise PolicyError(
            "signatures need the package 'cryptography': pip install heron-hil[signing]"
        ) from error
