"""How plant time goes by: with the wall clock, faster, as fast as it can, or step by step."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.registers.clock import PACE_LOCKSTEP, PACE_MAX, PACE_RATED

_RATED = re.compile(r"x(\d+(?:\.\d+)?)")
_LARGEST_RATE = 1e5


@dataclass(frozen=True, slots=True)
class Pace:
    """One way for plant time to go by.

    Attributes:
        name: ``real``, ``xK``, ``max`` or ``lockstep``.
        code: The same as the clock device says it.
        rate: Plant seconds per wall second; 0 where the wall clock does not matter.
    """

    name: str
    code: int
    rate: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a pace from the command line.

        Raises:
            ConfigError: It is none.
        """
        if text == "lockstep":
            return cls(text, PACE_LOCKSTEP, 0.0)
        if text == "max":
            return cls(text, PACE_MAX, 0.0)
        if text == "real":
            return cls(text, PACE_RATED, 1.0)
        match = _RATED.fullmatch(text)
        if match is None or not 0.0 < float(match[1]) <= _LARGEST_RATE:
            expected = f"expected real, max, lockstep, or xK with 0 < K <= {_LARGEST_RATE:g}"
            raise ConfigError([ConfigProblem("--pace", text, expected)])
        return cls(text, PACE_RATED, float(match[1]))


class Gate:
    """Holds the plant back in lock-step until everyone has acted on the current step.

    Args:
        wait_for: Edge processes that must say so. With none, only `advance` opens the gate.
    """

    def __init__(self, wait_for: Iterable[str]) -> None:
        self.wait_for = frozenset(wait_for)
        self._step: int | None = None
        self._acted: set[str] = set()
        self._open = asyncio.Event()

    @property
    def missing(self) -> list[str]:
        """Who has not acted on the current step yet."""
        return sorted(self.wait_for - self._acted)

    def close(self, step: int) -> None:
        """Wait from now on for this step."""
        self._step = step
        self._acted.clear()
        self._open.clear()

    def lock(self) -> None:
        """Take nothing until the next `close`: the plant is stepping."""
        self._step = None

    def acted(self, agent: str, step: int) -> None:
        """Note that an edge has acted; other steps and other edges are ignored."""
        if step != self._step or agent not in self.wait_for:
            return
        self._acted.add(agent)
        if not self.missing:
            self._open.set()

    def advance(self, step: int) -> bool:
        """Open the gate for everyone, as a Modbus master may; False for any other step."""
        if step != self._step:
            return False
        self._open.set()
        return True

    async def passed(self, timeout_s: float) -> bool:
        """Wait until everyone has acted; False when the time is up."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._open.wait()
        except TimeoutError:
            return False
        return True
