"""Child processes of `heron up`: started by their commands, watched, ended in order.

A child is ``python -m heron.cli.main COMMAND ...``. Its output goes to a log file, of which the
last lines are kept for the message when it dies. It runs in a session of its own, so that
Ctrl-C reaches only the parent, which then ends the children in the right order; and it follows
its standard input, so that a parent that is killed leaves no child behind.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from heron.cli.main import FOLLOW_STDIN
from heron.errors import HeronError

logger = logging.getLogger(__name__)

KEPT_LINES = 20
TERM_S = 5.0
"""Wall seconds that a child has to end by itself after it was told to."""


_RAISED = re.compile(r"(?!ExceptionGroup)[\w.]+(Error|Exception)\b")
"""How a traceback names what was raised; a group says less than its parts."""


class ChildFailed(HeronError):
    """A child process ended by itself.

    Attributes:
        name: Its command.
        code: Its exit code; negative: killed by that signal.
        last_lines: The end of its output.
    """

    def __init__(self, name: str, code: int, last_lines: Sequence[str]) -> None:
        how, why = f"ended with {code}", _telling(last_lines)
        if code < 0:
            how, why = f"was killed by {_signal_name(-code)}", ""
        super().__init__(f"{name} {how}" + (f": {why}" if why else ""))
        self.name = name
        self.code = code
        self.last_lines = tuple(last_lines)


class Child:
    """One process of ours; an async context manager that ends it on leaving.

    Args:
        name: For messages and the log file's name.
        argv: Arguments of the `heron` program, e.g. ``["edge", "--site", "site"]``.
        log_path: File that takes its output.
        env: Added to the environment.
    """

    def __init__(
        self, name: str, argv: Sequence[str], log_path: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.argv = [sys.executable, "-m", "heron.cli.main", *argv]
        self.log_path = log_path
        self._env = {**os.environ, FOLLOW_STDIN: "1", **(env or {})}
        self._last: deque[str] = deque(maxlen=KEPT_LINES)
        self._process: asyncio.subprocess.Process | None = None
        self._copying: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 before the start."""
        return 0 if self._process is None else self._process.pid

    @property
    def returncode(self) -> int | None:
        """Exit code; None while it runs."""
        return None if self._process is None else self._process.returncode

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The end of its output."""
        return tuple(self._last)

    async def __aenter__(self) -> Self:
        """Start it."""
        log = self.log_path.open("w", encoding="utf-8")
        self._process = await asyncio.create_subprocess_exec(
            *self.argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._env,
            start_new_session=True,
        )
        self._copying = asyncio.create_task(self._copy(log), name=f"log of {self.name}")
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it: ask, wait, and kill if it does not listen."""
        await self.end()

    async def wait(self) -> int:
        """Wait until it ends, with all its output read; return its exit code."""
        if self._process is None or self._copying is None:
            raise RuntimeError(f"{self.name} was not started")
        code = await self._process.wait()
        # A grandchild may hold the pipe: do not wait for ever for its end.
        with suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.shield(self._copying)
        return code

    async def fails(self) -> None:
        """Wait until it ends.

        Raises:
            ChildFailed: When it has ended with another code than 0.
        """
        code = await self.wait()
        if code != 0:
            raise ChildFailed(self.name, code, self.last_lines)

    async def end(self) -> None:
        """Ask it to end (SIGTERM); kill it after `TERM_S`."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(TERM_S):
                    await process.wait()
            except TimeoutError:
                logger.warning("child_killed name=%s after=%.0fs", self.name, TERM_S)
                with suppress(ProcessLookupError):
                    process.kill()
        await self.wait()
        if process.stdin is not None:
            process.stdin.close()
        if self._copying is not None:
            self._copying.cancel()
            with suppress(asyncio.CancelledError):
                await self._copying

    async def _copy(self, log: IO[str]) -> None:
        assert self._process is not None and self._process.stdout is not None
        with log:
            async for raw in self._process.stdout:
                line = raw.decode(errors="replace")
                log.write(line)
                log.flush()
                if line.strip():
                    self._last.append(line.rstrip())


def _telling(lines: Sequence[str]) -> str:
    """Return the line that says why: the program's own, or what was raised, or else the last."""
    for line in reversed(lines):
        if line.startswith("heron: "):
            return line.removeprefix("heron: ")
    for line in reversed(lines):
        # an exception group draws its parts with these marks
        text = line.lstrip(" |+-")
        if _RAISED.match(text):
            return text
    return lines[-1] if lines else ""


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def memory_mb(pid: int) -> float | None:
    """Return the resident memory of a process in MB; None where it cannot be told."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024.0
    return None
