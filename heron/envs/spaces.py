"""Our light spaces as gymnasium's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from heron.core.spaces import Box, Mixed, MultiDiscrete


def to_gym_space(space: Any) -> Any:
    """Return a space as gymnasium's; one that is gymnasium's already stays as it is.

    Raises:
        TypeError: It is no space.
    """
    if isinstance(space, gymnasium.Space):
        return space
    if isinstance(space, Box):
        return gymnasium.spaces.Box(space.low, space.high, dtype=np.float32)
    if isinstance(space, MultiDiscrete):
        return gymnasium.spaces.MultiDiscrete(list(space.nvec))
    if isinstance(space, Mixed):
        return gymnasium.spaces.Dict({"c": to_gym_space(space.c), "d": to_gym_space(space.d)})
    raise TypeError(f"{space!r} is not a space")
