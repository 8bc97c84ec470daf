"""What an action or observation may be, without a reinforcement-learning library.

The library must not need gymnasium at run time. These few frozen types say the same;
`heron.envs` turns them into gymnasium's when an environment is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Box:
    """A vector of float32 between ``low`` and ``high``, each of shape (n,)."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (n,)."""
        return self.low.shape

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` has the shape and lies within the bounds."""
        value = np.asarray(x)
        return value.shape == self.shape and bool(
            np.all(value >= self.low) and np.all(value <= self.high)
        )

    def sample(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Draw uniformly; the bounds must be finite."""
        return rng.uniform(self.low, self.high).astype(np.float32)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Box)
            and np.array_equal(self.low, other.low)
            and np.array_equal(self.high, other.high)
        )

    def __hash__(self) -> int:
        return hash((self.low.tobytes(), self.high.tobytes()))


@dataclass(frozen=True)
class MultiDiscrete:
    """A vector of integers, element i in 0 .. nvec[i] - 1."""

    nvec: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (n,)."""
        return (len(self.nvec),)

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` is a vector of categories that exist."""
        value = np.asarray(x)
        return (
            value.shape == self.shape
            and np.issubdtype(value.dtype, np.integer)
            and bool(np.all(value >= 0) and np.all(value < np.asarray(self.nvec)))
        )

    def sample(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Draw uniformly."""
        return rng.integers(0, np.asarray(self.nvec, dtype=np.int64))


@dataclass(frozen=True)
class Mixed:
    """A continuous part "c" and a discrete part "d"."""

    c: Box
    d: MultiDiscrete

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of both parts concatenated."""
        return (self.c.shape[0] + self.d.shape[0],)

    def contains(self, x: Any) -> bool:
        """Tell whether ``x`` is ``{"c": ..., "d": ...}`` with both parts valid."""
        return (
            isinstance(x, dict)
            and set(x) == {"c", "d"}
            and self.c.contains(x["c"])
            and self.d.contains(x["d"])
        )

    def sample(self, rng: np.random.Generator) -> dict[str, Any]:
        """Draw both parts uniformly."""
        return {"c": self.c.sample(rng), "d": self.d.sample(rng)}


Space: TypeAlias = Box | MultiDiscrete | Mixed
