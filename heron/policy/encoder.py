"""Reads the features of agents into observations: found once, then read every step.

Where a codec says which features an observation holds, an encoder knows where they are. It is
built for agents as they stand, and reads them in one sweep.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from heron.core import FeatureProvider, State
from heron.errors import ManifestMismatch

if TYPE_CHECKING:
    from heron.policy.codec import PolicyCodec

FloatArray = npt.NDArray[np.float32]
_frombuffer, _float32 = np.frombuffer, np.dtype(np.float32)


class JointEncoder:
    """Encodes the observations of several coordinators at once.

    Args:
        parts: Codec and agent of each, in order.

    Raises:
        ManifestMismatch: An agent lacks a feature of its codec.
    """

    def __init__(self, parts: Sequence[tuple[PolicyCodec, Any]]) -> None:
        self._owners: list[tuple[Any, State]] = []
        self._names: list[tuple[str, str, int]] = []
        self._rows: list[Any] = []
        self._slices: list[tuple[str, slice]] = []
        end = 0
        for codec, agent in parts:
            start, end = end, end + codec.obs_dim
            self._slices.append((agent.agent_id, slice(start, end)))
            owners = {agent.agent_id: agent, **agent.subordinates}
            self._owners += [(owner, owner.state) for owner in owners.values()]
            for owner, name, size in codec.layout():
                self._names.append((owner, name, size))
                self._rows.append(_with_numbers(_find(owners, owner, name)))
        scales = [codec.scale for codec, _ in parts]
        self._scale = np.concatenate(scales) if scales else np.zeros(0)
        self._pack = struct.Struct(f"{end}f").pack

    def holds(self) -> bool:
        """Whether the agents still have the states that it was built for."""
        return all(owner.state is state for owner, state in self._owners)

    def encode(self) -> dict[str, FloatArray]:
        """Return the agents' observations as they are now, by id, scaled, (obs_dim,) each.

        Raises:
            ManifestMismatch: A feature has other fields than the codec says.
        """
        values: list[float] = []
        take = values.extend
        for row in self._rows:
            take(row.numbers)
        try:
            # rounds to float32, as features do when they travel in reports; packing is several
            # times as fast as numpy's way from plain numbers
            single = _frombuffer(self._pack(*values), _float32)
        except OverflowError:
            single = np.array(values, dtype=np.float64).astype(np.float32)
        except struct.error:
            raise ManifestMismatch(self._misfit()) from None
        joint = (single / self._scale).astype(_float32)
        observations: dict[str, FloatArray] = {}
        for agent, part in self._slices:
            observations[agent] = joint[part]
        return observations

    def _misfit(self) -> str:
        """Say which feature has not as many numbers as the codec knows."""
        for (owner, name, size), source in zip(self._names, self._rows, strict=True):
            if len(source.numbers) != size:
                return f"{owner}.{name} has {len(source.numbers)} fields, the codec {size}"
        return "a feature holds something that is no number"


class _Reader:
    """Reads a feature as plain numbers: by its ``values()``, if that says it all, else its vector.

    Args:
        feature: The feature.
        values: Its ``values``; None where its vector is something else.
    """

    __slots__ = ("_feature", "_values")

    def __init__(
        self, feature: FeatureProvider, values: Callable[[], Sequence[float]] | None
    ) -> None:
        self._feature = feature
        self._values = values

    @property
    def numbers(self) -> Sequence[float]:
        """The feature's numbers in order."""
        if self._values is None:
            numbers: list[float] = self._feature.vector().tolist()
            return numbers
        return self._values()


def _with_numbers(feature: FeatureProvider) -> Any:
    """Return what has the feature's plain numbers as its ``numbers``: its row, if it is one."""
    if not _has_values(type(feature)):
        return _Reader(feature, None)
    if getattr(feature, "is_its_row", False):
        return feature.cell  # type: ignore[attr-defined]
    return _Reader(feature, feature.values)  # type: ignore[attr-defined]


def _has_values(kind: type[FeatureProvider]) -> bool:
    """Whether ``values()`` says what ``vector()`` says: not where a class made only that anew."""
    for base in kind.__mro__:
        if "values" in vars(base):
            return True
        if "vector" in vars(base):
            return False
    return False


def _find(owners: Mapping[str, Any], owner: str, name: str) -> FeatureProvider:
    state: State | None = owners[owner].state if owner in owners else None
    for key, feature in () if state is None else state.items():
        if key == name:
            return feature
    raise ManifestMismatch(f"the codec wants {owner}.{name}, which this agent does not have")
