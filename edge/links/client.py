"""What a connection needs of a transport: connect, ask, close."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol


class Client(Protocol):
    """One transport connection to units; made anew for each attempt to connect."""

    async def connect(self) -> bool:
        """Connect; False when nobody is there."""
        ...

    def ask(self, unit: int, request: bytes) -> Awaitable[bytes]:
        """Send one request (a PDU) and return the unit's reply (a PDU).

        It is called again only when the former call has ended.

        Raises:
            TimeoutError: No answer in time.
            ConnectionError: The connection is lost.
        """
        ...

    def close(self) -> None:
        """Let go of the transport. Sends nothing."""
        ...


ClientFactory = Callable[[Callable[[], None]], Client]
"""Makes a client that has not connected yet; is given what to call when the connection is lost."""
