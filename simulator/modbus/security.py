"""Modbus/TCP Security: mutual TLS, and what a master may do by the role in its certificate.

A master without a role, or with an unknown one, is answered with exception 1 whatever it asks.

Source: MODBUS/TCP Security Protocol Specification v21, sections 7.3 and 8.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem


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
