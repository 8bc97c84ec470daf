"""Counters of energy, as a DER and a meter show them since the start of the simulator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class EnergyCounter:
    """Adds up one power in both directions.

    Attributes:
        positive: What went by while the power was positive, Wh or varh.
        negative: The same while it was negative, as a positive number.
    """

    positive: float = 0.0
    negative: float = 0.0

    def add(self, power: float, elapsed_s: float) -> None:
        """Count a power (W or var) that was held for some plant seconds."""
        energy = power * elapsed_s / 3600.0
        if energy >= 0.0:
            self.positive += energy
        else:
            self.negative -= energy
