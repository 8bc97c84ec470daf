"""The simulator's clock device: a small map of our own, from register 0 on.

In lock-step, a Modbus-only master reads ``step``, acts on the devices, and writes that number to
``advance``: the plant then steps. Any other number is refused with exception 3, so a master that
is behind cannot step the plant by mistake.
"""

from __future__ import annotations

from dataclasses import dataclass

from heron.powergrid.registers.codec import Raw, RegisterType
from heron.powergrid.registers.table import Access, Block, Register, RegisterMap, Words, Write

PACE_LOCKSTEP = 0
PACE_MAX = 1
PACE_RATED = 2
PACE_NAMES = {PACE_LOCKSTEP: "lockstep", PACE_MAX: "max", PACE_RATED: "rated"}

CLOCK_REGISTERS = RegisterMap(
    (
        Register("epoch", 0, 2, RegisterType.UINT32, static=True),
        Register("step", 2, 2, RegisterType.UINT32),
        Register("time_s", 4, 4, RegisterType.FLOAT64, "s"),
        Register("step_s", 8, 4, RegisterType.FLOAT64, "s", static=True),
        Register("rate", 12, 2, RegisterType.FLOAT32, "plant s per wall s", static=True),
        Register("pace", 14, 1, RegisterType.ENUM16, symbols=PACE_NAMES, static=True),
        Register("finished", 15, 1, RegisterType.UINT16),
        Register("failed", 16, 1, RegisterType.UINT16),
        Register("advance", 17, 2, RegisterType.UINT32, access=Access.READ_WRITE),
    )
)


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the clock device shows.

    Attributes:
        epoch: Grows with each start of the simulator.
        step: Control steps since the start.
        time_s: Plant time since the start of the data year.
        step_s: Plant seconds a control step.
        rate: Plant seconds per wall second; 0 where the plant is not tied to the wall clock.
        pace: One of the `PACE_NAMES`.
        finished: The simulator has done all the steps that it was asked for.
        failed: The last step found no power-flow solution.
    """

    epoch: int
    step: int
    time_s: float
    step_s: float
    rate: float
    pace: int
    finished: bool
    failed: bool = False


class ClockTable:
    """The register table of the clock device, and both directions of its codec."""

    registers = CLOCK_REGISTERS

    @property
    def telemetry(self) -> tuple[Block, ...]:
        """The read that gives everything."""
        return (self.registers.block("epoch", "failed"),)

    def values(self, reading: ClockReading) -> dict[str, Raw]:
        """Return the points that show a reading."""
        return {
            "epoch": reading.epoch,
            "step": reading.step,
            "time_s": reading.time_s,
            "step_s": reading.step_s,
            "rate": reading.rate,
            "pace": reading.pace,
            "finished": int(reading.finished),
            "failed": int(reading.failed),
        }

    def decode(self, words: Words) -> ClockReading | None:
        """Return what the clock shows, or None when a point is missing."""
        numbers = {n: self.registers.number(words, n) for n in self.registers if n != "advance"}
        known = {name: value for name, value in numbers.items() if value is not None}
        if len(known) != len(numbers):
            return None
        return ClockReading(
            epoch=int(known["epoch"]),
            step=int(known["step"]),
            time_s=known["time_s"],
            step_s=known["step_s"],
            rate=known["rate"],
            pace=int(known["pace"]),
            finished=known["finished"] != 0,
            failed=known["failed"] != 0,
        )

    def encode_advance(self, step: int) -> Write:
        """Return the write that says: everyone has acted on this step."""
        return self.registers.run({"advance": step})
