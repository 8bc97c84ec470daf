"""How the agents of a site coordinate: one name for the tree that every clock builds.

The environment, event-driven time and the deployed controller ask `scheme_of` for the same
scheme and build the same agents from it; only how their messages travel differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heron.core import Policy
from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.agents.build import build_agents
from heron.powergrid.agents.dso_agent import DSOAgent
from heron.powergrid.agents.market import MarketGridAgent
from heron.powergrid.agents.power_grid_agent import PowerGridAgent
from heron.powergrid.agents.trading import HIGHEST_PRICE, LOWEST_PRICE
from heron.powergrid.features import MarketSignal
from heron.powergrid.setups.coordination import ALIASES, require_named
from heron.powergrid.setups.loader import Setup
from heron.powergrid.setups.models import SetupConfig
from heron.powergrid.setups.own_modules import load_module
from heron.protocols import (
    ConsensusProtocol,
    PeerToPeerTradingProtocol,
    Protocol,
    SetpointProtocol,
    SystemProtocol,
)


class AskMarketPrice(Policy):
    """The operator's policy under `SystemProtocol`: the market's price for every coordinator."""

    def __init__(self, n_coordinators: int) -> None:
        self._n = n_coordinators

    def forward(self, observation: Any) -> NDArray[np.float64]:
        """Return one price a coordinator, $/MWh."""
        seen = observation.local[MarketSignal.feature_name]
        return np.full(self._n, float(seen[0]))


@dataclass(frozen=True, slots=True)
class Scheme:
    """How operator, coordinators and devices of a site coordinate.

    Attributes:
        name: As it was asked for.
        coordinator: Makes the microgrids' coordinators. Where the operator answers them it is
            `MarketGridAgent` or a class derived from it.
        protocol: Makes the protocol from a coordinator to its devices; it may return None for
            the coordinator's own.
        system_protocol: Makes the protocol from the operator to the coordinators; None: there
            is none.
        system_policy: Makes the operator's policy, where its protocol needs an action.
    """

    name: str
    coordinator: Callable[..., PowerGridAgent] = PowerGridAgent
    protocol: Callable[[], Protocol | None] = SetpointProtocol
    system_protocol: Callable[[], Protocol] | None = None
    system_policy: Callable[[SetupConfig], Policy] | None = None

    @property
    def commands_devices(self) -> bool:
        """Whether the action of a coordinator is its devices' set-points."""
        return self.coordinator is PowerGridAgent and self.protocol is SetpointProtocol

    @property
    def negotiates(self) -> bool:
        """Whether coordinators tell the operator something and wait for its answer."""
        return self.system_protocol is not None

    def build(self, setup: Setup | SetupConfig, **options: Any) -> DSOAgent:
        """Build the tree of agents.

        Args:
            setup: What to build.
            options: As for `build_agents`.

        Raises:
            ConfigError: As `build_agents`, or an action of the scheme is not bounded.
        """
        config = setup.config if isinstance(setup, Setup) else setup
        dso = build_agents(
            setup,
            coordinator=self.coordinator,
            protocol=self.protocol,
            system_protocol=None if self.system_protocol is None else self.system_protocol(),
            **options,
        )
        if self.system_policy is not None:
            dso.policy = self.system_policy(config)
        return dso


def _none() -> None:
    """Leave the coordinator its own protocol."""


_AMONG_PEERS = partial(MarketGridAgent, negotiates=True)

SCHEMES: Mapping[str, Scheme] = {
    "setpoint": Scheme("setpoint"),
    "price": Scheme("price", partial(MarketGridAgent, negotiates=False), _none),
    "p2p": Scheme("p2p", _AMONG_PEERS, _none, PeerToPeerTradingProtocol),
    "consensus": Scheme(
        "consensus",
        _AMONG_PEERS,
        _none,
        partial(ConsensusProtocol, value_field="LocalPrice.local_price"),
    ),
    "system": Scheme(
        "system",
        _AMONG_PEERS,
        _none,
        partial(
            SystemProtocol,
            fields=("local_price",),
            per_coordinator=True,
            low=LOWEST_PRICE,
            high=HIGHEST_PRICE,
        ),
        lambda config: AskMarketPrice(len(config.microgrid_ids)),
    ),
}
"""Those that ship."""


def scheme_of(text: str) -> Scheme:
    """Return a scheme by name, or one of the user's.

    Args:
        text: A name in `SCHEMES`; or ``module:NAME`` or ``FILE.py:NAME``, where NAME is a
            `Scheme`, or a `Protocol` class that carries a coordinator's action to its devices.

    Raises:
        ConfigError: There is no such scheme, or it cannot be loaded.
    """
    shipped = SCHEMES.get(ALIASES.get(text, text))
    if shipped is not None:
        return shipped
    try:
        require_named(text)
    except ValueError as error:
        raise ConfigError([ConfigProblem("protocol", text, str(error))]) from error
    module, _, name = text.rpartition(":")
    try:
        found = getattr(load_module(module), name, None)
    except ImportError as error:
        problem = ConfigProblem("protocol", text, f"a module that can be loaded: {error}")
        raise ConfigError([problem]) from error
    if isinstance(found, Scheme):
        return found
    if isinstance(found, type) and issubclass(found, Protocol):
        return Scheme(text, protocol=found)
    what = "nothing of that name" if found is None else f"a {type(found).__name__}"
    expected = f"a Protocol class or a Scheme; {module} holds {what}"
    raise ConfigError([ConfigProblem("protocol", text, expected)])
