"""What a service manager wants: JSON logs, and word that we are ready and alive.

Source: sd_notify(3).
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import re
import socket
import time

_PAIRS = re.compile(r"\b([a-z_]+)=(.*?)(?=\s[a-z_]+=|$)")


class JsonLines(logging.Formatter):
    """One JSON object a record; ``key=value`` words of the message become keys."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        message = record.getMessage()
        line: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        for key, value in _PAIRS.findall(message):
            line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def set_up_logging(level: str, *, as_json: bool) -> None:
    """Log to standard error."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s")
    handler.setFormatter(JsonLines() if as_json else plain)
    logging.basicConfig(level=level, handlers=[handler])


def spare_what_stays() -> None:
    """Keep the garbage collector from going through all that was built for the whole run.

    With 1,000 devices each of its full rounds would stop every cycle for 0.1 s.
    """
    gc.collect()
    gc.freeze()


def notify(state: str) -> bool:
    """Tell systemd, e.g. ``READY=1``; False where it did not start us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.sendall(state.encode())
    return True


async def keep_watchdog() -> None:
    """Say READY, and then WATCHDOG twice an interval, until cancelled.

    It runs in the event loop of the cycles, so a loop that hangs is noticed.
    """
    if not notify("READY=1"):
        return
    interval_us = os.environ.get("WATCHDOG_USEC")
    if interval_us is None:
        return
    while True:
        notify("WATCHDOG=1")
        await asyncio.sleep(int(interval_us) / 2e6)
