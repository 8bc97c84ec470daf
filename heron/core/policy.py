"""Policies: what turns an observation into an action."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Protocol, runtime_checkable

from numpy.typing import ArrayLike


@runtime_checkable
class Policy(Protocol):
    """Anything with ``forward``; subclass it or just have the method.

    A policy that keeps something between calls also has ``reset()``, which agents call at the
    start of an episode.
    """

    @abstractmethod
    def forward(self, observation: Any) -> ArrayLike:
        """Return the action vector, shape (dim_c + dim_d,), for an `Observation`."""
        raise NotImplementedError
