"""Keeps what was said: measurements as rows, everything that changes something as events.

One SQLite file, written in batches by one thread, so that a slow disk never holds a cycle up.
Telemetry goes to ``samples``, one row a point; commands' results, decisions, what operators
asked for, policies' reports, markets, alarms, accounts and statuses go to ``events`` as JSON.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from heron.errors import ConfigError, ConfigProblem
from heron.messaging.topics import (
    ACCOUNT,
    ALARM,
    DECISION,
    LIMITS,
    MARKET,
    MODE,
    POLICY,
    POLICY_REPORT,
    RESULT,
    STATUS,
)
from heron.messaging.wire import Message, Telemetry

EVENTS = frozenset(
    topic.name
    for topic in (
        RESULT,
        DECISION,
        MODE,
        LIMITS,
        POLICY,
        POLICY_REPORT,
        MARKET,
        ALARM,
        ACCOUNT,
        STATUS,
    )
)
FLUSH_EVERY_S = 1.0
PRUNE_EVERY = 600
"""Flushes between two removals of what is too old."""
MAX_WAITING = 100_000
_DAY_S = 86_400.0
_SCHEMA = """
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS samples
  (at_s REAL, time_s REAL, agent TEXT, point TEXT, value REAL, good INTEGER);
CREATE INDEX IF NOT EXISTS samples_of ON samples (agent, point, at_s);
CREATE TABLE IF NOT EXISTS events (at_s REAL, topic TEXT, agent TEXT, message TEXT);
CREATE INDEX IF NOT EXISTS events_of ON events (topic, agent, at_s);
"""

Row = tuple[Any, ...]
T = TypeVar("T")


class Historian:
    """Writes a history while it is entered; a sink of an `Observer`.

    Args:
        path: SQLite file; what it holds already is kept.
        keep_days: Wall days after which rows are removed.
        wall: Unix time, the ``at_s`` of every row.

    Attributes:
        lost: Rows dropped because the disk did not keep up.

    Raises:
        ConfigError: (on entering) The file cannot be written or is no database.
    """

    def __init__(
        self, path: Path, keep_days: float = 30.0, *, wall: Callable[[], float] = time.time
    ) -> None:
        self.lost = 0
        self._path = path
        self._keep_s = keep_days * _DAY_S
        self._wall = wall
        self._samples: deque[Row] = deque()
        self._events: deque[Row] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="historian")
        self._database: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        """Open the file."""
        try:
            await self._in_thread(self._open)
        except sqlite3.Error as error:
            self._thread.shutdown()
            problem = ConfigProblem("--history", str(self._path), str(error))
            raise ConfigError([problem]) from error
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write what waits, and close."""
        await self.flush()
        await self._in_thread(self._close)
        self._thread.shutdown()

    def write(self, topic: str, agent: str, message: Message, at_s: float) -> None:
        """Take one message; never waits."""
        now = self._wall()
        if len(self._samples) + len(self._events) > MAX_WAITING:
            self.lost += 1
        elif isinstance(message, Telemetry):
            self._samples.extend(
                (now, message.time_s, agent, name, point.value, point.quality == "good")
                for name, point in message.points.items()
            )
        elif topic in EVENTS:
            self._events.append((now, topic, agent, message.model_dump_json()))

    async def run(self) -> None:
        """Write what waits about every second, until cancelled."""
        flushes = 0
        while True:
            await asyncio.sleep(FLUSH_EVERY_S)
            await self.flush(prune=flushes % PRUNE_EVERY == 0)
            flushes += 1

    async def flush(self, *, prune: bool = False) -> None:
        """Write what waits now; with ``prune`` also remove what is too old."""
        await self._in_thread(partial(self._flush, prune))

    async def samples(self, agent: str, point: str, limit: int = 1000) -> list[Row]:
        """Return the newest values of a point: (at_s, time_s, value, good), oldest first."""
        query = (
            "SELECT at_s, time_s, value, good FROM samples WHERE agent = ? AND point = ? "
            "ORDER BY at_s DESC LIMIT ?"
        )
        return await self._in_thread(partial(self._query, query, (agent, point, limit)))

    async def events(self, topic: str, limit: int = 1000) -> list[Row]:
        """Return the newest events of a topic: (at_s, agent, message as JSON), oldest first."""
        query = "SELECT at_s, agent, message FROM events WHERE topic = ? ORDER BY at_s DESC LIMIT ?"
        return await self._in_thread(partial(self._query, query, (topic, limit)))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- in the historian's thread --------------------------------------------------------

    def _open(self) -> None:
        self._database = sqlite3.connect(self._path)
        self._database.executescript(_SCHEMA)

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()

    def _flush(self, prune: bool) -> None:
        assert self._database is not None
        samples = [self._samples.popleft() for _ in range(len(self._samples))]
        events = [self._events.popleft() for _ in range(len(self._events))]
        with self._database as transaction:
            transaction.executemany("INSERT INTO samples VALUES (?, ?, ?, ?, ?, ?)", samples)
            transaction.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", events)
            if prune:
                before = (self._wall() - self._keep_s,)
                transaction.execute("DELETE FROM samples WHERE at_s < ?", before)
                transaction.execute("DELETE FROM events WHERE at_s < ?", before)

    def _query(self, query: str, values: Sequence[Any]) -> list[Row]:
        assert self._database is not None
        return self._database.execute(query, values).fetchall()[::-1]
