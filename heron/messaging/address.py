"""Where a broker is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Self
from urllib.parse import unquote, urlsplit

from heron.errors import ConfigError, ConfigProblem

_DEFAULT_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where a broker is and how to log in.

    Attributes:
        tls: Encrypt, and check the broker's certificate against the system's authorities.
    """

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``mqtt://[user[:password]@]host[:port]``; ``mqtts`` for TLS.

        Raises:
            ConfigError: It is not of that form.
        """
        expected = "expected mqtt://host:port or mqtts://host:port"
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            raise ConfigError([ConfigProblem("broker", text, f"{error}; {expected}")]) from error
        rest = parts.path.strip("/") or parts.query or parts.fragment
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or rest or port == 0:
            raise ConfigError([ConfigProblem("broker", text, expected)])
        return cls(
            parts.hostname,
            _DEFAULT_PORTS[parts.scheme] if port is None else port,
            None if parts.username is None else unquote(parts.username),
            None if parts.password is None else unquote(parts.password),
            parts.scheme == "mqtts",
        )

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"
