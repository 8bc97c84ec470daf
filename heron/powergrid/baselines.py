"""Every policy that is not trained, by name: for evaluation, for studies, for the deployed loop.

One table, so that a name means the same in ``heron evaluate``, ``heron gap`` and ``heron
controller``. Those that optimise need the extra ``optimization``, which is imported only when one
of them is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.policy import PolicyCodec
from heron.policy.baselines import IdlePolicy, RulePolicy
from heron.policy.droop import DROOP_RANGES, DroopPolicy, DroopSettings
from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.inverter_rules import VoltVarPolicy
from heron.powergrid.network_model import network_model
from heron.powergrid.networks import Grid, compose
from heron.powergrid.plans import FOLDER, PlanBook, PlanPolicy
from heron.powergrid.setups import Setup
from heron.powergrid.tuned import setup_directory, tuned

SHIELD = "shield:"
"""Prefix that puts a policy behind the voltage shield of its own microgrid."""
NETWORK_SHIELD = "shield-network:"
"""Prefix that puts all coordinators' policies behind one shield of the whole network."""
SHIELDS = (SHIELD, NETWORK_SHIELD)

BASELINES: Mapping[str, str] = {
    "none": "generators at their minimum, stores at rest, sources uncurtailed",
    "rule": "merit order, price ranks, a volt-var droop",
    "voltvar": "IEEE 1547-2018 default volt-var and volt-watt, otherwise as none",
    "droop": "merit order, price thresholds, volt-var, tuned on training days",
    "qp": "the best next step of each microgrid by itself, voltages kept; tuned",
    "qp-network": "the best next step over the network, with the last step's loads and sun",
    "mpc": "each microgrid's stores planned over the day-ahead prices at every step",
    "mpc-network": "the network planned hourly for a day with yesterday's loads and sun",
    "mpc-perfect": "the same, knowing loads and sun",
    "optimum": "the plan of the day that knew everything, where one is known",
}
"""Name and what it does."""

CENTRAL = ("qp-network", "mpc-network", "mpc-perfect")
"""Baselines that see the whole network."""
HONEST = ("none", "rule")
"""Baselines that there are under every protocol."""
TUNABLE = ("droop", "qp", *CENTRAL)
"""Baselines with numbers that ``heron tune`` finds."""


class ActingPolicy(Protocol):
    """Anything that decides for one coordinator."""

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the normalised action for a scaled observation."""
        ...


def is_baseline(name: str) -> bool:
    """Return whether a name, with or without the shield, is one of `BASELINES`."""
    return split_shield(name)[1] in BASELINES


def split_shield(name: str) -> tuple[str, str]:
    """Return the shield that a name asks for, or nothing, and the name of what is behind it."""
    shield = next((prefix for prefix in SHIELDS if name.startswith(prefix)), "")
    return shield, name.removeprefix(shield)


def planners(what: str) -> Any:
    """Return the package of the planners.

    Raises:
        ConfigError: Its solvers are not installed; the message says what asked for them.
    """
    try:
        from heron.powergrid import optimization
    except ImportError as error:
        expected = "its solvers installed: pip install heron-hil[optimization]"
        raise ConfigError([ConfigProblem(what, str(error.name), expected)]) from error
    return optimization


class Baselines:
    """Makes baselines for the coordinators of one setup.

    What several of them need, the grid and its equivalent, is built once and only when asked
    for; planners that see the whole network are shared by the coordinators.

    Args:
        setup: The setup.
        codecs: Codec per coordinator.

    Attributes:
        codecs: As given.
    """

    def __init__(self, setup: Setup, codecs: Mapping[str, PolicyCodec]) -> None:
        self._setup = setup
        self.codecs = codecs
        self._shared: dict[str, Any] = {}

    @cached_property
    def _grid(self) -> Grid:
        return compose(self._setup.config)

    @cached_property
    def _network(self) -> Any:
        return planners("optimization").radial_network(self._grid)

    def policies(self, name: str) -> dict[str, ActingPolicy]:
        """Return one policy per coordinator; see `policy`."""
        return {agent: self.policy(name, agent) for agent in self.codecs}

    def policy(self, name: str, agent: str) -> ActingPolicy:
        """Return a baseline for one coordinator.

        Where coordinators do not command set-points, ``none`` and ``rule`` are the action of 0,
        in a market the honest one, and there are no others.

        Args:
            name: One of `BASELINES`; one of `SHIELDS` before it puts it behind that shield.
            agent: The coordinator.

        Raises:
            ConfigError: No such baseline, it does not fit the setup or the protocol, or its
                solvers are not installed.
        """
        shield, behind = split_shield(name)
        if self._other_action and is_baseline(name):
            if shield or behind not in HONEST:
                self._refuse_other_actions(name)
            return IdlePolicy(self.codecs[agent])
        if shield:
            return self.shielded(self.policy(behind, agent), agent, shield)
        makers: dict[str, Callable[[PolicyCodec], Any]] = {
            "none": IdlePolicy,
            "rule": lambda codec: RulePolicy(codec, self._curves),
            "voltvar": lambda codec: VoltVarPolicy(codec, self._microgrid(agent)),
            "mpc": lambda codec: planners(name).MpcPolicy(
                codec, self._microgrid(agent), self._setup.config.step_s
            ),
            "optimum": self._planned,
            **{n: lambda codec: self._tunable(name, codec, self.settings(name)) for n in TUNABLE},
        }
        if name not in makers:
            expected = f"one of {', '.join(BASELINES)}"
            raise ConfigError([ConfigProblem("policy", name, expected)])
        try:
            policy: ActingPolicy = makers[name](self.codecs[agent])
        except KeyError as error:
            expected = f"a setup whose coordinators observe it (forecast: true): {error}"
            raise ConfigError([ConfigProblem(name, str(error), expected)]) from error
        return policy

    def shielded(self, policy: ActingPolicy, agent: str, shield: str = SHIELD) -> ActingPolicy:
        """Put a policy behind a shield, one of `SHIELDS`.

        Raises:
            ConfigError: The shield's solver is not installed, or it does not fit the setup or
                the protocol.
        """
        self._refuse_other_actions(shield.rstrip(":"))
        optimization = planners(shield.rstrip(":"))
        behind: ActingPolicy
        if shield == NETWORK_SHIELD:
            shared = self.network_shield
            behind = optimization.NetworkShieldedPolicy(policy, self.codecs[agent], shared)
            return behind
        own = optimization.VoltageShield.for_microgrid(
            self._network, self._grid, self._setup.config, agent
        )
        behind = optimization.ShieldedPolicy(policy, self.codecs[agent], own)
        return behind

    @cached_property
    def network_shield(self) -> Any:
        """The shield that all coordinators share, a `NetworkShield`.

        Raises:
            ConfigError: Its solvers are not installed, or it does not fit the setup or the
                protocol.
        """
        name = NETWORK_SHIELD.rstrip(":")
        self._refuse_other_actions(name)
        optimization = planners(name)
        settings = tuned(self._setup, name, optimization.NetworkShieldSettings)
        model = network_model(self._setup.config, self._grid)
        try:
            return optimization.NetworkShield(self._setup, self._grid, model, self.codecs, settings)
        except KeyError as error:
            expected = f"a setup whose coordinators observe it (forecast: true): {error}"
            raise ConfigError([ConfigProblem(name, str(error), expected)]) from error

    @cached_property
    def _other_action(self) -> str:
        """An action of the coordinators that is no device's set-point; nothing: all are."""
        devices = set(self._setup.config.device_ids)
        actions = (s for codec in self.codecs.values() for s in codec.setpoints)
        return next((s.path for s in actions if s.agent not in devices), "")

    def _refuse_other_actions(self, name: str) -> None:
        if self._other_action:
            expected = "set-points of devices, as coordinators command them under setpoint"
            raise ConfigError([ConfigProblem(f"{name}: action", self._other_action, expected)])

    @cached_property
    def _curves(self) -> dict[str, tuple[float, float]]:
        """Fuel cost ``(a, b)`` of each generator."""
        config = self._setup.config
        return {
            d: (c.cost_curve_coefs[0], c.cost_curve_coefs[1])
            for d in config.device_ids
            if isinstance(c := config.device(d).device_state_config, GeneratorConfig)
        }

    def _microgrid(self, agent: str) -> Any:
        return next(m for m in self._setup.config.microgrid_configs if m.name == agent)

    def tunable(self, name: str) -> tuple[type[Any], Mapping[str, tuple[float, float]], bool]:
        """Return the class of a baseline's settings, their ranges, and whether it acts in batch.

        Raises:
            ConfigError: It has none, or its solvers are not installed.
        """
        if name == "droop":
            return DroopSettings, DROOP_RANGES, True
        if name == "qp":
            optimization = planners(name)
            return optimization.GreedySettings, optimization.GREEDY_RANGES, False
        if name in CENTRAL:
            optimization = planners(name)
            return optimization.PlannerSettings, optimization.PLANNER_RANGES, False
        expected = f"a baseline that has numbers: {', '.join(TUNABLE)}"
        raise ConfigError([ConfigProblem("baseline", name, expected)])

    def settings(self, name: str) -> Any:
        """Return a baseline's settings: tuned for this setup, or the defaults."""
        return tuned(self._setup, name, self.tunable(name)[0])

    def with_settings(self, name: str, settings: Any) -> dict[str, ActingPolicy]:
        """Return one policy per coordinator with settings of its own."""
        self._shared.pop(name, None)
        return {a: self._tunable(name, codec, settings) for a, codec in self.codecs.items()}

    def _tunable(self, name: str, codec: PolicyCodec, settings: Any) -> Any:
        if name == "droop":
            return DroopPolicy(codec, self._curves, settings)
        optimization, setup = planners(name), self._setup
        if name == "qp":
            return optimization.GreedyPolicy(
                codec, self._network, self._grid, setup.config, settings
            )
        if name not in self._shared:
            self._shared[name] = optimization.network_planner(
                name, setup, self._grid, self._network, settings
            )
        return optimization.NetworkMpcPolicy(codec, self._shared[name], setup)

    def _planned(self, codec: PolicyCodec) -> PlanPolicy:
        if "optimum" not in self._shared:
            directory = setup_directory(self._setup) / FOLDER
            if not directory.is_dir():
                expected = (
                    "a setup with known optima: `heron evaluate optimum --plans DIR` finds them"
                )
                raise ConfigError([ConfigProblem("policy", "optimum", expected)])
            self._shared["optimum"] = PlanBook.load(directory, self._setup)
        return PlanPolicy(codec, self._shared["optimum"], self._setup)
