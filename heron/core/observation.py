"""What an agent sees at one instant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from heron.core.features import Vector


@dataclass(slots=True)
class Observation:
    """An agent's own and its subordinates' features, and what everybody knows.

    Attributes:
        local: Feature name to vector; for a coordinator also ``"subordinates"``: agent id to
            the same.
        global_info: Public numbers from the environment.
        timestamp: Plant seconds at which it was taken.
    """

    local: Mapping[str, Any] = field(default_factory=dict)
    global_info: Mapping[str, Any] = field(default_factory=dict)
    timestamp: float = 0.0

    def vector(self) -> Vector:
        """Return every number as float32: ``local`` first, then ``global_info``.

        Mappings are walked depth first in the order in which they were filled, which agents do
        in the order of their features and subordinates: the same agent always gives the same
        layout.

        Raises:
            ValueError: Something in it is not a number; the message names its key.
        """
        parts: list[Vector] = []
        _collect(self.local, "local", parts)
        _collect(self.global_info, "global_info", parts)
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _collect(value: Any, where: str, parts: list[Vector]) -> None:
    if isinstance(value, np.ndarray):
        parts.append(value.astype(np.float32, copy=False).ravel())
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _collect(inner, f"{where}.{key}", parts)
    else:
        if isinstance(value, (str, bytes)) or value is None:
            raise ValueError(f"observation: {where} = {value!r} is not a number")
        try:
            parts.append(np.asarray(value, dtype=np.float32).ravel())
        except (TypeError, ValueError) as error:
            raise ValueError(f"observation: {where} = {value!r} is not a number") from error
