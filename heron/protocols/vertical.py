"""Protocols from a coordinator down to its subordinates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heron.core.action import Action
from heron.core.observation import Observation
from heron.errors import ConfigError, ConfigProblem
from heron.protocols.base import Coordination, Protocol, action_vector

if TYPE_CHECKING:
    from heron.agents.base import Agent


class SetpointProtocol(Protocol):
    """The coordinator's action is its subordinates' actions, concatenated in their order."""

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Cut the action into one for each subordinate.

        Raises:
            ValueError: It has the wrong shape or is not finite.
        """
        if action is None:
            return Coordination()
        sizes = {name: agent.action_size for name, agent in subordinates.items()}
        vector = action_vector(action, sum(sizes.values()), "SetpointProtocol")
        actions = {}
        offset = 0
        for name, size in sizes.items():
            if size:
                actions[name] = vector[offset : offset + size]
            offset += size
        return Coordination(actions=actions)

    def declare_action(self, action: Action, subordinates: Mapping[str, Agent]) -> None:
        """Concatenate the subordinates' specs.

        Raises:
            ConfigError: A subordinate has categories before another's numbers, so that the
                concatenation is no longer numbers first.
        """
        parts = [agent.action for agent in subordinates.values()]
        if any(part.dim_d for part in parts[:-1]):
            raise ConfigError(
                [
                    ConfigProblem(
                        "SetpointProtocol",
                        list(subordinates),
                        "agents with discrete actions last, and one only",
                    )
                ]
            )
        low = np.concatenate([part.low for part in parts]) if parts else np.zeros(0)
        high = np.concatenate([part.high for part in parts]) if parts else np.zeros(0)
        ncats = [n for part in parts for n in part.ncats]
        action.set_specs(low.size, len(ncats), ncats or None, (low, high))


class PriceSignalProtocol(Protocol):
    """The coordinator's action is a price; each subordinate responds to it by itself.

    Field agents answer in ``respond_to_price(price)``, after the message has reached them.

    Args:
        initial_price: Price until the coordinator sets one, in $/MWh.
        min_price: Lowest price that may be sent.
        max_price: Highest price that may be sent.

    Attributes:
        price: The price in force.
    """

    needs_action = False

    def __init__(
        self, initial_price: float = 50.0, min_price: float = 0.0, max_price: float = 200.0
    ) -> None:
        if not min_price <= initial_price <= max_price:
            raise ConfigError(
                [
                    ConfigProblem(
                        "PriceSignalProtocol.initial_price",
                        initial_price,
                        f"{min_price} to {max_price} $/MWh",
                    )
                ]
            )
        self.initial_price = initial_price
        self.min_price = min_price
        self.max_price = max_price
        self.price = initial_price

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Send the price to all; an action of None sends the price in force again.

        Raises:
            ValueError: The action is not one finite number.
        """
        if action is not None:
            price = float(action_vector(action, 1, "PriceSignalProtocol")[0])
            self.price = min(max(price, self.min_price), self.max_price)
        return Coordination(
            signals={name: {"price": self.price} for name in subordinates},
            report={"price": self.price},
        )

    def declare_action(self, action: Action, subordinates: Mapping[str, Agent]) -> None:
        """One number: the price in $/MWh."""
        action.set_specs(dim_c=1, range=(self.min_price, self.max_price))

    def reset(self) -> None:
        """Return to the initial price."""
        self.price = self.initial_price


class SystemProtocol(Protocol):
    """The system operator tells its coordinators named numbers: prices, limits.

    Args:
        fields: Names of the numbers, in the order of the action.
        per_coordinator: False: one set of numbers for all, the action has n_fields elements.
            True: a set for each, n_coordinators x n_fields, coordinator by coordinator.
        low: Lowest value, one for all fields or one each.
        high: Highest value.
    """

    def __init__(
        self,
        fields: Sequence[str] = ("price",),
        per_coordinator: bool = False,
        low: float | Sequence[float] = -1e6,
        high: float | Sequence[float] = 1e6,
    ) -> None:
        if isinstance(fields, str) or not fields or len(set(fields)) != len(fields):
            expected = "a list of different names"
            raise ConfigError([ConfigProblem("SystemProtocol.fields", fields, expected)])
        self.fields = tuple(fields)
        self.per_coordinator = per_coordinator
        self.low = self._bound("low", low)
        self.high = self._bound("high", high)
        problems = [
            ConfigProblem(f"SystemProtocol.low of {name}", a, f"a number up to its high, {b:g}")
            for name, a, b in zip(fields, self.low.tolist(), self.high.tolist(), strict=True)
            if not a <= b
        ]
        if problems:
            raise ConfigError(problems)

    def _bound(self, name: str, value: float | Sequence[float]) -> NDArray[np.float64]:
        try:
            bound = np.asarray(value, dtype=float)
            bound = np.broadcast_to(bound, (len(self.fields),))
        except (TypeError, ValueError) as error:
            expected = f"one number, or {len(self.fields)}: one for each field"
            problem = ConfigProblem(f"SystemProtocol.{name}", value, expected)
            raise ConfigError([problem]) from error
        return bound

    def coordinate(
        self,
        action: Any,
        subordinates: Mapping[str, Agent],
        observation: Observation | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Coordination:
        """Send each coordinator its numbers.

        Raises:
            ValueError: The action has the wrong shape or is not finite.
        """
        if action is None:
            return Coordination()
        n_sets = len(subordinates) if self.per_coordinator else 1
        vector = action_vector(action, n_sets * len(self.fields), "SystemProtocol")
        rows = np.clip(vector.reshape(n_sets, len(self.fields)), self.low, self.high)
        signals = {}
        for i, name in enumerate(subordinates):
            row = rows[i if self.per_coordinator else 0]
            signals[name] = dict(zip(self.fields, row.tolist(), strict=True))
        return Coordination(signals=signals)

    def declare_action(self, action: Action, subordinates: Mapping[str, Agent]) -> None:
        """One number a field, or one a field and coordinator."""
        n_sets = len(subordinates) if self.per_coordinator else 1
        low, high = np.tile(self.low, n_sets), np.tile(self.high, n_sets)
        action.set_specs(dim_c=low.size, range=(low, high))
