"""A circuit breaker a unit: a dead device costs its neighbours one time-out a window.

One time-out opens it: on a shared link each further one is paid by everybody. The first window is
short, so a device that lost one request is asked again within half a second.
"""

from __future__ import annotations

from edge.links.backoff import Backoff
from edge.timing import MonotonicClock
from heron.errors import DeviceTimeout


class CircuitOpen(DeviceTimeout):
    """The unit failed lately; it is not asked again before ``retry_in_s``."""

    def __init__(self, device: str, timeout_s: float, retry_in_s: float) -> None:
        super().__init__(device, timeout_s)
        self.args = (f"{device}: did not answer, next try in {retry_in_s:.1f} s",)
        self.retry_in_s = retry_in_s


class Breaker:
    """Opens after ``after`` time-outs in a row, lets one request through a window.

    Args:
        device: For messages.
        now: Monotonic clock.
        backoff: Lengths of the windows.

    Attributes:
        open: Whether the unit did not answer last time.
    """

    def __init__(self, device: str, now: MonotonicClock, backoff: Backoff) -> None:
        self.device = device
        self._now = now
        self._backoff = backoff
        self.open = False
        self._retry_at_s = float("-inf")

    def check(self, timeout_s: float) -> None:
        """Pass, or raise at once while the window is not over.

        Raises:
            CircuitOpen: It is too early to ask again.
        """
        wait = self._retry_at_s - self._now()
        if self.open and wait > 0:
            raise CircuitOpen(self.device, timeout_s, wait)

    def failed(self) -> None:
        """Note a time-out."""
        self.open = True
        self._retry_at_s = self._now() + self._backoff.next_s()

    def answered(self) -> None:
        """Note an answer; even a refusal is one."""
        self.open = False
        self._backoff.reset()
