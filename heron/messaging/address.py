"""Where a broker is, and how to know it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from heron.errors import ConfigError, ConfigProblem

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}
_FILES = ("ca", "cert", "key")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is and how to log in.

    Attributes:
        tls: Encrypt, and check the broker's certificate.
        ca: Certificates of the authorities that may have signed the broker's; None: the
            system's.
        cert: Own certificate, where the broker asks for one.
        key: Its private key; None where it stands in the certificate's file.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``mqtt://[user[:password]@]host[:port]``; ``mqtts`` for TLS.

        With ``mqtts`` may follow ``?ca=FILE&cert=FILE&key=FILE``.

        Raises:
            ConfigError: It is not of that form, or a file cannot be used.
        """
        expected = "expected mqtt://host:port or mqtts://host:port[?ca=FILE&cert=FILE&key=FILE]"
        try:
            parts = urlsplit(text)
            port = parts.port
            query = parse_qsl(parts.query, strict_parsing=True) if parts.query else []
        except ValueError as error:
            raise ConfigError([ConfigProblem("broker", text, f"{error}; {expected}")]) from error
        files = {name: Path(value) for name, value in query}
        tls = parts.scheme == "mqtts"
        rest = parts.path.strip("/") or parts.fragment or len(files) != len(query)
        wrong = (
            set(files) - set(_FILES) or (files and not tls) or ("key" in files) > ("cert" in files)
        )
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or rest or wrong or port == 0:
            raise ConfigError([ConfigProblem("broker", text, expected)])
        address = cls(
            parts.hostname,
            _DEFAULT_PORTS[parts.scheme] if port is None else port,
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            tls,
            files.get("ca"),
            files.get("cert"),
            files.get("key"),
        )
        address.tls_context()
        return address

    def tls_context(self) -> ssl.SSLContext | None:
        """Return what checks the broker's certificate and shows one's own; None without TLS.

        Raises:
            ConfigError: A file is not there, or holds no certificate or key.
        """
        if not self.tls:
            return None
        name, path = "ca", self.ca
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert is not None:
                name, path = "cert and key", self.cert
                context.load_cert_chain(self.cert, self.key)
        except OSError as error:
            reason = f"a PEM file that can be read: {error.strerror or error}"
            raise ConfigError([ConfigProblem(f"broker.{name}", str(path), reason)]) from error
        return context

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"
