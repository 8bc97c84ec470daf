"""How old an observation is, and what was said last: what a policy needs where things are late."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from heron.core import FeatureProvider
from heron.powergrid.features.base import DomainFeature, FeatureField


class Timeliness(DomainFeature):
    """How old the oldest reading is that a coordinator decides on.

    Attributes:
        age: In control steps: 0 where nothing is late.
    """

    visibility = ("owner",)
    fields = (FeatureField("age", "steps"),)

    age: float

    def __init__(self, age: float = 0.0) -> None:
        super().__init__(age=age)


class LastAction(FeatureProvider):
    """The command that a coordinator gave a device last, as it gave it: normalised, in [-1, 1].

    It is what the coordinator knows of itself, so it is never late, whether the command has
    arrived, was lost or was limited by the device's envelope. 0 while nothing was commanded.

    Args:
        values: By the names of the device's set-points without their unit: ``p``, ``q``, ``tap``.
    """

    visibility = ("owner", "upper_level")

    def __init__(self, **values: float) -> None:
        self._values = dict(values) if values else {"p": 0.0, "q": 0.0}

    @classmethod
    def of(cls, quantities: Iterable[str]) -> LastAction:
        """Build one for the set-points of a device, named as in a codec: ``p_mw``."""
        return cls(**{field_of(quantity): 0.0 for quantity in quantities})

    def take(self, action: Iterable[float]) -> None:
        """Take in a command, in the order of the set-points; values are clipped to [-1, 1]."""
        clipped = (min(1.0, max(-1.0, float(x))) for x in action)
        self._values = dict(zip(self._values, clipped, strict=True))

    def names(self) -> Sequence[str]:
        """Return the names of the set-points."""
        return tuple(self._values)

    def vector(self) -> npt.NDArray[np.float32]:
        """Return the last command, (n_setpoints,)."""
        return np.array(self.values(), dtype=np.float32)

    def values(self) -> Sequence[float]:
        """Return the last command as plain numbers."""
        return tuple(self._values.values())

    def to_dict(self) -> dict[str, float]:
        """Return plain data for messages and logs."""
        return dict(self._values)

    def set_values(self, **kwargs: float) -> None:
        """Set single values by name.

        Raises:
            ValueError: A name is not one of its set-points; nothing is set then.
        """
        unknown = sorted(set(kwargs) - set(self._values))
        if unknown:
            raise ValueError(f"LastAction has no field {', '.join(unknown)}")
        self._values |= {name: float(value) for name, value in kwargs.items()}


def field_of(quantity: str) -> str:
    """Return the name of a set-point in `LastAction`: ``p`` for ``p_mw``."""
    return quantity.partition("_")[0]
