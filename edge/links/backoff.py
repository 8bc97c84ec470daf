"""Waiting longer after each failure, with a cap, and never in step with others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(slots=True)
class Backoff:
    """Doubles from ``first_s`` to ``cap_s``; each wait is drawn from its upper half.

    Args:
        first_s: Longest first wait.
        cap_s: Longest wait ever.
        rng: Source of the jitter.
    """

    first_s: float
    cap_s: float
    rng: np.random.Generator = field(default_factory=np.random.default_rng)
    failures: int = 0

    def next_s(self) -> float:
        """Count a failure and return how long to wait."""
        ceiling = min(self.cap_s, self.first_s * 2.0 ** min(self.failures, 30))
        self.failures += 1
        return float(self.rng.uniform(0.5 * ceiling, ceiling))

    def reset(self) -> None:
        """Forget the failures."""
        self.failures = 0
