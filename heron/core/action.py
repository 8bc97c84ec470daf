"""Actions: continuous and discrete parts, their bounds and their normalised form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.core.spaces import Box, Mixed, MultiDiscrete, Space
from heron.errors import ConfigError

Floats = NDArray[np.float64]


class Action:
    """One agent's action: ``dim_c`` bounded numbers, then ``dim_d`` categories.

    Attributes:
        d: Discrete part, shape (dim_d,).
        low: Lower bounds of ``c``.
        high: Upper bounds of ``c``.
        ncats: Number of categories of each element of ``d``.
        joint: A joint action, n plain numbers, whose ``part`` is to be the continuous part: whoever
            hands out one at every step sets this, and nobody need look. None: ``c`` was set since.
        part: Where in a joint action the continuous part lies.
    """

    def __init__(self) -> None:
        self.part = slice(None)
        self.set_specs()

    @property
    def c(self) -> Floats:
        """Continuous part in its own units, shape (dim_c,)."""
        if self.joint is not None:
            told = np.array(self.joint[self.part], dtype=np.float64)
            self.c = np.minimum(np.maximum(told, self.low), self.high)
        return self._c

    @c.setter
    def c(self, values: Floats) -> None:
        self._c = values
        self.joint: Sequence[float] | None = None

    def set_specs(
        self,
        dim_c: int = 0,
        dim_d: int = 0,
        ncats: int | Sequence[int] | None = None,
        range: tuple[ArrayLike, ArrayLike] | NDArray[Any] | None = None,  # noqa: A002 - the guide's name
    ) -> Self:
        """Declare what the action looks like and set it to its neutral value.

        Args:
            dim_c: Number of continuous elements.
            dim_d: Number of discrete elements.
            ncats: Categories per discrete element; one number for all, or one each.
            range: (low, high) of the continuous part, scalars or of shape (dim_c,); -1 to 1
                if not given.

        Raises:
            ConfigError: Numbers that do not fit together.
        """
        if dim_c < 0 or dim_d < 0:
            raise ConfigError(f"action: dim_c = {dim_c}, dim_d = {dim_d}: at least 0")
        low, high = (-1.0, 1.0) if range is None else _pair(range)
        self.dim_c, self.dim_d = dim_c, dim_d
        self.low = _bound(low, dim_c, "low")
        self.high = _bound(high, dim_c, "high")
        if np.any(self.low > self.high):
            raise ConfigError(f"action: range low {self.low} is above high {self.high}")
        self.ncats = _categories(ncats, dim_d)
        self.reset()
        return self

    @property
    def size(self) -> int:
        """Return dim_c + dim_d."""
        return self.dim_c + self.dim_d

    def reset(self) -> None:
        """Set the neutral value: 0 if the bounds allow it, else the nearest bound; category 0."""
        self.c = np.clip(np.zeros(self.dim_c), self.low, self.high)
        self.d: NDArray[np.int64] = np.zeros(self.dim_d, dtype=np.int64)

    def validate(self, values: ArrayLike | Mapping[str, ArrayLike]) -> Floats:
        """Return ``values`` as one vector of shape (size,), or say what is wrong with it.

        It is a copy: who gave the values may do with theirs what they like.

        Raises:
            ValueError: Wrong shape, not finite, or a category that does not exist.
        """
        if isinstance(values, np.ndarray) and values.dtype == np.float64 and values.ndim == 1:
            vector = values.copy()
        elif isinstance(values, Mapping):
            parts = [np.atleast_1d(np.asarray(values.get(k, []), dtype=float)) for k in ("c", "d")]
            vector = np.concatenate(parts)
        else:
            vector = np.atleast_1d(np.array(values, dtype=float))
        if vector.shape != (self.dim_c + self.dim_d,):
            raise ValueError(f"action has shape {vector.shape}, expected ({self.size},)")
        if not all_finite(vector):
            raise ValueError(f"action {vector} is not finite")
        if self.dim_d:
            d = vector[self.dim_c :]
            if np.any(d != np.round(d)) or np.any(d < 0) or np.any(d >= np.asarray(self.ncats)):
                raise ValueError(f"action: categories {d}, expected integers below {self.ncats}")
        return vector

    def split_mask(self, mask: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        """Return the part of a mask of shape (sum(ncats),) that belongs to each category.

        Raises:
            ValueError: It has another shape.
        """
        if mask.shape != (sum(self.ncats),):
            raise ValueError(f"action mask has shape {mask.shape}, expected ({sum(self.ncats)},)")
        return np.split(mask, np.cumsum(self.ncats)[:-1]) if self.ncats else []

    def set_values(
        self,
        values: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        c: ArrayLike | None = None,
        d: ArrayLike | None = None,
    ) -> Self:
        """Set the action; the continuous part is clipped to its bounds.

        Args:
            values: Vector (c, then d) or ``{"c": ..., "d": ...}``.
            c: Continuous part alone.
            d: Discrete part alone.

        Raises:
            ValueError: Wrong shape, not finite, or a category that does not exist.
        """
        if values is None:
            values = {"c": self.c if c is None else c, "d": self.d if d is None else d}
        return self.set_valid(self.validate(values))

    def set_valid(self, vector: Floats) -> Self:
        """Set the action from what `validate` returned; the continuous part is clipped."""
        if self.dim_d:
            self.d = vector[self.dim_c :].astype(np.int64)
            vector = vector[: self.dim_c]
        # np.clip costs several times as much as these two on short vectors
        self.c = np.minimum(np.maximum(vector, self.low), self.high)
        return self

    def values(self) -> Floats:
        """Return c, then d, shape (size,)."""
        return np.concatenate([self.c, self.d]) if self.dim_d else self.c.copy()

    def scale(self) -> Floats:
        """Return the continuous part normalised to [-1, 1] (0 where the bounds coincide)."""
        span = self.high - self.low
        return (
            np.divide(2.0 * (self.c - self.low), span, out=np.ones(self.dim_c), where=span > 0)
            - 1.0
        )

    def unscale(self, normalised: ArrayLike) -> Self:
        """Set the continuous part from a vector in [-1, 1], clipped.

        Raises:
            ValueError: Wrong shape or not finite.
        """
        x = np.atleast_1d(np.asarray(normalised, dtype=float))
        if x.shape != (self.dim_c,) or not np.isfinite(x).all():
            raise ValueError(f"action: {x} is not {self.dim_c} finite numbers")
        x = np.clip(x, -1.0, 1.0)
        self.c = self.low + (x + 1.0) / 2.0 * (self.high - self.low)
        return self

    def vector(self) -> NDArray[np.float32]:
        """Return c, then d, as float32, shape (size,)."""
        return self.values().astype(np.float32)

    @property
    def space(self) -> Space:
        """Return what the action may be; `heron.envs.to_gym_space` makes it gymnasium's."""
        box = Box(self.low.astype(np.float32), self.high.astype(np.float32))
        if not self.dim_d:
            return box
        discrete = MultiDiscrete(self.ncats)
        return Mixed(box, discrete) if self.dim_c else discrete

    @classmethod
    def from_gym_space(cls, space: Any) -> Self:
        """Build an action from a gymnasium space or one of ours.

        Box, Discrete, MultiDiscrete, and a Dict or Tuple of a Box ("c") and a discrete part
        ("d") are understood, by their attributes: gymnasium itself is not needed.

        Raises:
            ConfigError: Another kind of space.
        """
        if isinstance(space, Mixed):
            continuous, discrete = space.c, space.d
        elif hasattr(space, "spaces"):
            parts = space.spaces
            members = list(parts.values()) if isinstance(parts, Mapping) else list(parts)
            boxes = [s for s in members if hasattr(s, "low")]
            others = [s for s in members if not hasattr(s, "low")]
            if len(boxes) != 1 or len(others) != 1:
                raise ConfigError(f"action: {space!r} is not one Box and one discrete space")
            continuous, discrete = boxes[0], others[0]
        elif hasattr(space, "low"):
            continuous, discrete = space, None
        else:
            continuous, discrete = None, space
        action = cls()
        ncats = _categories_of(discrete)
        low = np.zeros(0) if continuous is None else np.asarray(continuous.low, dtype=float)
        high = np.zeros(0) if continuous is None else np.asarray(continuous.high, dtype=float)
        if low.ndim != 1:
            raise ConfigError(f"action: a Box of shape {low.shape} is not a vector")
        return action.set_specs(low.size, len(ncats), ncats or None, (low, high))


def all_finite(vector: Floats) -> bool:
    """Tell whether every element is finite; faster than numpy on short vectors."""
    if vector.size > 32:
        return bool(np.isfinite(vector).all())
    return all(map(math.isfinite, vector.tolist()))


def _pair(bounds: Any) -> tuple[ArrayLike, ArrayLike]:
    try:
        low, high = bounds
    except (TypeError, ValueError) as error:
        raise ConfigError(f"action: range = {bounds!r}: expected a pair (low, high)") from error
    return low, high


def _bound(value: ArrayLike, dim: int, name: str) -> Floats:
    try:
        bound = np.asarray(value, dtype=float)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"action: range {name} = {value!r}: expected numbers") from error
    if bound.ndim == 0:
        bound = np.full(dim, float(bound))
    if bound.shape != (dim,) or np.isnan(bound).any():
        raise ConfigError(f"action: range {name} {bound} does not fit dim_c = {dim}")
    return bound


def _categories(ncats: int | Sequence[int] | None, dim_d: int) -> tuple[int, ...]:
    if ncats is None:
        numbers: tuple[int, ...] = ()
    elif isinstance(ncats, int):
        numbers = (ncats,) * dim_d
    else:
        numbers = tuple(int(n) for n in ncats)
    if len(numbers) != dim_d or any(n < 1 for n in numbers):
        raise ConfigError(f"action: ncats = {ncats!r} does not fit dim_d = {dim_d}")
    return numbers


def _categories_of(space: Any) -> tuple[int, ...]:
    if space is None:
        return ()
    if hasattr(space, "nvec"):
        return tuple(int(n) for n in np.asarray(space.nvec).ravel())
    if hasattr(space, "n"):
        return (int(space.n),)
    raise ConfigError(f"action: {space!r} is not a Box, Discrete or MultiDiscrete space")
