"""Telemetry that the broker did not take, kept in a file until it does.

SQLite in write-ahead mode: what was put in survives the end of the process. The file is bounded;
the oldest goes first, and is counted.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from pydantic import ValidationError

from edge.timing import MonotonicClock
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.bus import Bus
from heron.messaging.topics import STATUS, TELEMETRY
from heron.messaging.wire import Telemetry
from heron.powergrid.kept_orders import state_folder

logger = logging.getLogger(__name__)

BATCH = 200
"""Messages read, sent and deleted together."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS telemetry (
    id INTEGER PRIMARY KEY AUTOINCREMENT, payload BLOB NOT NULL, bytes INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('dropped', 0);
"""


def check_store(path: Path) -> None:
    """Look whether a store can be there, without making it.

    Raises:
        ConfigError: There is no such folder, or this service may not write in it.
    """
    folder = path.parent
    expected = ""
    if not folder.is_dir():
        expected = "expected a file in a folder that exists"
    # Who checks by hand is somebody else than the service.
    elif state_folder() is not None and not os.access(folder, os.W_OK):
        expected = f"this service may not write in {folder}: expected a file in {state_folder()}"
    if expected:
        raise ConfigError([ConfigProblem("store", str(path), expected)])


class TelemetryStore:
    """Messages in the order in which they came; a context manager.

    Args:
        path: File.
        max_bytes: Largest sum of payloads.

    Attributes:
        lost: Messages that could not be written to the file, since this process began.

    Raises:
        ConfigError: The file cannot be opened, or is no store.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.lost = 0
        self._failing = False
        self._max_bytes = max_bytes
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_SCHEMA)
            (self._bytes, self._count) = self._db.execute(
                "SELECT COALESCE(SUM(bytes), 0), COUNT(*) FROM telemetry"
            ).fetchone()
        except sqlite3.Error as error:
            problem = ConfigProblem("store", str(path), f"cannot be used as a store: {error}")
            raise ConfigError([problem]) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._db.close()

    def __len__(self) -> int:
        return int(self._count)

    @property
    def dropped(self) -> int:
        """Messages that had to go because the store was full, since the file was made."""
        (value,) = self._db.execute("SELECT value FROM counters WHERE name='dropped'").fetchone()
        return int(value)

    def put(self, messages: list[Telemetry]) -> bool:
        """Keep messages; the oldest go if there is no room.

        Returns:
            False where the file cannot be written, e.g. on a full disk: they are lost, and counted.
        """
        payloads = [message.model_dump_json().encode() for message in messages]
        try:
            with self._db:
                self._db.execute("BEGIN")
                self._db.executemany(
                    "INSERT INTO telemetry (payload, bytes) VALUES (?, ?)",
                    [(payload, len(payload)) for payload in payloads],
                )
                size, count = self._make_room(
                    self._bytes + sum(map(len, payloads)), self._count + len(payloads)
                )
        except sqlite3.OperationalError as error:
            self.lost += len(messages)
            self._say(error)
            return False
        self._bytes, self._count = size, count
        self._say(None)
        return True

    def _make_room(self, size: int, count: int) -> tuple[int, int]:
        """Drop the oldest until the rest fits; return bytes and messages that are left."""
        dropped = 0
        while size > self._max_bytes:
            (row, bytes_) = self._db.execute(
                "SELECT id, bytes FROM telemetry ORDER BY id LIMIT 1"
            ).fetchone()
            self._db.execute("DELETE FROM telemetry WHERE id=?", (row,))
            size -= bytes_
            dropped += 1
        if dropped:
            self._db.execute("UPDATE counters SET value=value+? WHERE name='dropped'", (dropped,))
        return size, count - dropped

    def _say(self, error: sqlite3.OperationalError | None) -> None:
        """Log that the file cannot be written, or can be again; once each."""
        if error is not None and not self._failing:
            logger.error("store_failed reason=%s", error)
        elif error is None and self._failing:
            logger.warning("store_recovered lost=%d", self.lost)
        self._failing = error is not None

    def oldest(self, limit: int = BATCH) -> list[tuple[int, Telemetry]]:
        """Return the oldest messages with their keys, marked historical.

        What is no message (a damaged file, another version's) is taken out and counted as lost.
        """
        rows = self._db.execute(
            "SELECT id, payload FROM telemetry ORDER BY id LIMIT ?", (limit,)
        ).fetchall()
        kept = []
        for row, payload in rows:
            try:
                message = Telemetry.model_validate_json(payload)
            except ValidationError as error:
                logger.error("stored_message_lost id=%d reason=%s", row, error.errors()[0]["msg"])
                self.lost += 1
                self._delete("id=?", row)
                continue
            kept.append((row, message.model_copy(update={"historical": True})))
        return kept

    def delete_up_to(self, key: int) -> None:
        """Forget a message and all before it.

        Where the file cannot be written they stay, and are sent once more.
        """
        self._delete("id<=?", key)

    def _delete(self, which: str, key: int) -> None:
        try:
            with self._db:
                self._db.execute("BEGIN")
                (size, count) = self._db.execute(
                    f"SELECT COALESCE(SUM(bytes), 0), COUNT(*) FROM telemetry WHERE {which}", (key,)
                ).fetchone()
                self._db.execute(f"DELETE FROM telemetry WHERE {which}", (key,))
        except sqlite3.OperationalError as error:
            self._say(error)
            return
        self._bytes -= size
        self._count -= count


class StoreAndForward:
    """Sends telemetry while there is a broker, and keeps it while there is none.

    A broker that vanishes without a word is noticed late, and what was sent meanwhile is lost. So
    the last ``doubt_s`` are remembered and put in the store when the connection is found lost: a
    receiver may get a message twice, with the same sequence, but misses none.

    A broker that is back before its listeners would take what is forwarded and give it to nobody.
    With a ``listener`` there counts as nobody there until that agent's status says, on this
    connection, that it is online.
    """

    def __init__(
        self,
        bus: Bus,
        store: TelemetryStore,
        now: MonotonicClock,
        doubt_s: float = 15.0,
        listener: str | None = None,
    ) -> None:
        self._bus = bus
        self._store = store
        self._now = now
        self._doubt_s = doubt_s
        self._listener = listener
        self._heard_on: int | None = None
        self._recent: deque[tuple[float, Telemetry]] = deque()
        self._connection = self._present()

    def _present(self) -> int | None:
        """Return the number of the connection on which telemetry arrives, or None."""
        if not self._bus.connected:
            return None
        number = self._bus.counters.connections
        return number if self._listener is None or self._heard_on == number else None

    def _note_loss(self) -> None:
        present = self._present()
        if present == self._connection:
            return
        self._connection = present
        if self._recent:
            self._store.put([message for _, message in self._recent])
            self._recent.clear()

    async def send(self, message: Telemetry) -> None:
        """Send or keep one message."""
        self._note_loss()
        if self._connection is None:
            self._store.put([message])
            return
        now = self._now()
        self._recent.append((now, message))
        while self._recent[0][0] < now - self._doubt_s:
            self._recent.popleft()
        await self._bus.publish(TELEMETRY, message, agent=message.agent)

    async def run(self, pause_s: float = 0.2) -> None:
        """Forward what is kept, whenever somebody takes it; until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._listener is not None:
                group.create_task(self._watch(self._listener))
            while True:
                await self._bus.wait_connected()
                self._note_loss()
                if len(self._store) and self._connection is not None:
                    await self._forward()
                await asyncio.sleep(pause_s)

    async def _watch(self, listener: str) -> None:
        """Keep track of whether the listener is there: after each connection it is said anew."""
        async with self._bus.subscribe(STATUS, agent=listener) as statuses:
            async for _, status in statuses:
                self._heard_on = self._bus.counters.connections if status.online else None

    async def _forward(self) -> None:
        began_on = self._connection
        batch = self._store.oldest()
        if not batch:
            return
        for _, message in batch:
            await self._bus.publish(TELEMETRY, message, agent=message.agent)
        if self._present() == began_on:
            self._store.delete_up_to(batch[-1][0])
            if not len(self._store):
                logger.info("telemetry_forwarded last_sequence=%d", batch[-1][1].sequence)
