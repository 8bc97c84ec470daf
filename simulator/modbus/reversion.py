"""Functions that masters enable and set, and that revert by themselves when nobody writes.

Time is the plant's: a device that hears nothing for its time-out takes its reversion values,
whatever the wall clock says.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from heron.powergrid.registers.codec import Raw
from heron.powergrid.registers.table import RegisterMap
from simulator.modbus.image import UnitImage


@dataclass(frozen=True, slots=True)
class Function:
    """One function that masters enable, set, and that reverts.

    Attributes:
        enable: Point that switches it on.
        values: Points that hold what it does; each takes its reversion value, see
            `reversion_of`, where there is one.
        timeout: Point that holds the time after which it reverts.
        remaining: Point that shows how much of it is left, or empty.
        enable_after: Point that tells what ``enable`` becomes, or empty for 0.
        others: More points that masters may write.
    """

    enable: str
    values: tuple[str, ...]
    timeout: str
    remaining: str = ""
    enable_after: str = ""
    others: tuple[str, ...] = ()

    @property
    def writable(self) -> frozenset[str]:
        """The points that masters may write, as far as the device has them."""
        reversions = (reversion_of(name) for name in self.values)
        after = (self.enable_after,) if self.enable_after else ()
        own = (self.enable, *self.values, self.timeout)
        return frozenset({*own, *reversions, *after, *self.others})

    @property
    def at_rest(self) -> dict[str, Raw]:
        """Values of a function that is off, with a reversion that would switch it on."""
        values: dict[str, Raw] = {self.enable: 0, self.timeout: 0}
        if self.remaining:
            values[self.remaining] = 0
        if self.enable_after:
            values[self.enable_after] = 1
        return values


def reversion_of(point: str) -> str:
    """Return the point that holds a point's reversion value: ``WSetRvrt``, ``PFWInjRvrt.PF``."""
    model, *group, name = point.split(".")
    return f"{model}.{group[0]}Rvrt.{name}" if group else f"{point}Rvrt"


def reverting(model: int, prefix: str, *values: str, others: tuple[str, ...] = ()) -> Function:
    """Return a function whose points are named as those of model 704 are."""
    head = f"{model}.{prefix}"
    return Function(
        f"{head}Ena",
        tuple(f"{model}.{name}" for name in values),
        f"{head}RvrtTms",
        f"{head}RvrtRem",
        f"{head}EnaRvrt",
        tuple(f"{model}.{name}" for name in others),
    )


class RevertingImage(UnitImage):
    """The registers of a unit with functions that revert, and with a heartbeat (715).

    Args:
        registers: Its table.
        values: Values that stand there from the start.
        functions: What masters may command.
        others: More points that masters may write.
        identity: Objects of "read device identification".
    """

    def __init__(
        self,
        registers: RegisterMap,
        values: Mapping[str, Raw],
        functions: tuple[Function, ...],
        *,
        others: frozenset[str] = frozenset(),
        identity: Mapping[int, str],
    ) -> None:
        self._functions = functions
        self._remaining_s: dict[str, float] = {}
        self._plant_s = 0.0
        names = {"715.ControllerHb", *others}.union(*(f.writable for f in functions))
        start: dict[str, Raw] = {"715.LocRemCtl": 0, "715.DERHb": 0, "715.ControllerHb": 0}
        for function in functions:
            start |= function.at_rest
        super().__init__(
            registers,
            {**start, **values},
            frozenset(names & registers.keys()),
            identity=identity,
        )

    def written(self, names: frozenset[str]) -> None:
        """Start the reversion time of each function that was written."""
        remaining: dict[str, Raw] = {}
        for function in self._functions:
            if names & function.writable:
                left = self._start(function)
                if function.remaining:
                    remaining[function.remaining] = left
        if remaining:
            self.publish(remaining)

    def _start(self, function: Function) -> int:
        enabled = self.counts_down(function)
        timeout = self.value(function.timeout)
        if not enabled or not isinstance(timeout, (int, float)) or timeout <= 0:
            self._remaining_s.pop(function.enable, None)
            return 0
        self._remaining_s[function.enable] = float(timeout)
        return int(timeout)

    def counts_down(self, function: Function) -> bool:
        """Tell whether a function is in a state that ends by itself: while it is enabled."""
        return self.value(function.enable) == 1

    def let_pass(self, elapsed_s: float) -> dict[str, Raw]:
        """Let plant seconds go by; return the points that change with them."""
        self._plant_s += elapsed_s
        values: dict[str, Raw] = {"715.DERHb": int(self._plant_s) % 0xFFFFFFFF}
        for function in self._functions:
            if function.enable not in self._remaining_s:
                continue
            left = self._remaining_s[function.enable] - elapsed_s
            # A step of 0.1 s added up a thousand times must not revert one step late.
            if left > 1e-6:
                self._remaining_s[function.enable] = left
                if function.remaining:
                    values[function.remaining] = math.ceil(left - 1e-6)
            else:
                del self._remaining_s[function.enable]
                values.update(self._reversion(function))
        return values

    def _reversion(self, function: Function) -> dict[str, Raw]:
        values: dict[str, Raw] = {function.remaining: 0} if function.remaining else {}
        for name in function.values:
            source = reversion_of(name)
            fallback = self.value(source) if source in self.registers else None
            if fallback is not None:
                values[name] = fallback
        enable = self.value(function.enable_after) if function.enable_after else None
        values[function.enable] = 0 if enable is None else enable
        return values
