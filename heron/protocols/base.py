"""What a coordination protocol is, and the one function that runs any of them."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heron.core.action import Action, all_finite
from heron.core.observation import Observation
from heron.errors import ConfigError, ConfigProblem

if TYPE_CHECKING:
    from heron.agents.base import Agent

Signal = Mapping[str, float]
"""Named numbers that a coordinator tells a subordinate, e.g. ``{"price": 42.0}``."""


@dataclass(frozen=True, slots=True)
class Coordination:
    """What a protocol decided.

    Attributes:
        actions: Action vector per subordinate id: what it shall do.
        signals: Signal per subordinate id: what it shall know and respond to by itself.
        report: What happened, for infos and logs.
    """

    actions: Mapping[str, ArrayLike] = field(default_factory=dict)
    signals: Mapping[str, Signal] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


class Protocol(ABC):
    """How a coordinator turns its action into what each subordinate does.

    A protocol sees what the coordinator sees and no more: what it needs to know about a
    subordinate it takes from the observation, which has passed visibility and delays. The
    subordinates themselves are given for their ids, order and action sizes.

    The shortest custom protocol takes two arguments and returns actions by id::

        class EqualShare(Protocol):
            def coordinate(self, action, subordinates):
                return {name: action for name in subordinates}
    """

    needs_observation: bool = False
    """Whether `coordinate` must be given an observation."""

    needs_action: bool = True
    """Whether a coordinator without an action has nothing to coordinate."""

    @abstractmethod
    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination | Mapping[str, ArrayLike]:
        """Return what the subordinates shall do or know.

        The last two parameters may be left out of an override.

        Args:
            action: The coordinator's action vector, or None if it has none.
            subordinates: By id, in the order of the action.
            observation: What the coordinator sees.
            context: What else it knows: ``time_s``, and what `protocol_context` of the
                coordinator adds.

        Returns:
            A `Coordination`, or just actions by subordinate id.
        """

    def declare_action(self, action: Action, subordinates: Mapping[str, Agent]) -> None:
        """Set the specs of the coordinator's action; it has none unless a protocol says so."""
        action.set_specs()

    def reset(self) -> None:  # noqa: B027 - most protocols keep nothing
        """Forget what was kept from the last episode."""


class NoProtocol(Protocol):
    """Coordinates nothing: every subordinate decides for itself."""

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Return nothing.

        Raises:
            ValueError: An action was given, and it would be lost.
        """
        if action is not None and np.size(action):
            raise ValueError(f"action {action}: this coordinator has no protocol to carry it")
        return Coordination()


def run_protocol(
    protocol: Protocol,
    action: Any,
    subordinates: Mapping[str, Agent],
    observation: Observation | None = None,
    context: Mapping[str, Any] | None = None,
) -> Coordination:
    """Run a protocol of either form and check what it returns.

    Raises:
        ConfigError: ``coordinate`` takes other arguments, returns something else, or names an
            agent that is no subordinate.
    """
    given: tuple[Any, ...] = (action, subordinates, observation, context)
    result = protocol.coordinate(*given[: _n_arguments(type(protocol))])
    if not isinstance(result, Coordination):
        if not isinstance(result, Mapping):
            raise ConfigError(
                f"{type(protocol).__name__}.coordinate returned {type(result).__name__}, "
                "expected a Coordination or a dict of actions by agent id"
            )
        result = Coordination(actions=result)
    for name in (*result.actions, *result.signals):
        if name not in subordinates:
            raise ConfigError(
                [
                    ConfigProblem(
                        f"{type(protocol).__name__}.coordinate",
                        name,
                        f"one of the subordinates {', '.join(subordinates)}",
                    )
                ]
            )
    return result


@lru_cache(maxsize=256)
def _n_arguments(kind: type[Protocol]) -> int:
    parameters = list(inspect.signature(kind.coordinate).parameters.values())[1:]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return 4
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p for p in positional if p.default is p.empty]
    if len(positional) < 2 or len(required) > 4:
        raise ConfigError(
            f"{kind.__name__}.coordinate must take (action, subordinates) or "
            "(action, subordinates, observation, context)"
        )
    return min(len(positional), 4)


def action_vector(action: Any, size: int, who: str) -> NDArray[np.float64]:
    """Return an action as a vector of ``size`` finite numbers.

    Raises:
        ValueError: It is not.
    """
    vector = np.asarray(action, dtype=float)
    if vector.ndim == 0:
        vector = vector.reshape(1)
    if vector.shape != (size,):
        raise ValueError(f"{who}: action has shape {vector.shape}, expected ({size},)")
    if not all_finite(vector):
        raise ValueError(f"{who}: action {vector} is not finite")
    return vector
