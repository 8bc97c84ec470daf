"""The network's own equations, for an operator who runs them beside the plant.

A planner on the balanced equivalent does not know single phases, nor where regulators stand. An
operator who must know both runs the network's power flow. The solvers live with the plant and are
not imported here: a distribution that has one says so with an entry point in the group
``heron.network_models``, named as engines are in a setup.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.networks import Grid
from heron.powergrid.setups import SetupConfig

FloatArray = npt.NDArray[np.float64]

GROUP = "heron.network_models"
"""Entry points: a function of a grid that returns a `NetworkModel`, by the engine's name."""


@dataclass(frozen=True, slots=True)
class Flow:
    """One solved power flow.

    Attributes:
        v_pu: (n_nodes,) voltage of every node.
        device_v_pu: (n_devices,) mean phase voltage at each device.
        loading_pu: (n_branches,) loading of each rated branch; 0 without a rating.
        head_mw: What the upstream grid supplies.
        state: Where the controls stand; to be handed to the next solve.
    """

    v_pu: FloatArray
    device_v_pu: FloatArray
    loading_pu: FloatArray
    head_mw: float
    state: Any


class NetworkModel(Protocol):
    """A power flow with the network's regulators and capacitors. One owner each."""

    @property
    def nodes(self) -> tuple[tuple[str, str], ...]:
        """(bus, phase) of each node."""
        ...

    @property
    def watched(self) -> npt.NDArray[np.bool_]:
        """(n_nodes,) whether a customer is connected, so that the band counts there."""
        ...

    def settle(self, load_scale: FloatArray, p_mw: FloatArray, q_mvar: FloatArray) -> Flow:
        """Return the flow with all controls come to rest, from the grid's own positions.

        Raises:
            PowerFlowDiverged: No solution.
        """
        ...

    def solve(
        self,
        load_scale: FloatArray,
        p_mw: FloatArray,
        q_mvar: FloatArray,
        state: Any,
        *,
        move_taps: bool,
        dt_s: float,
    ) -> Flow:
        """Return the flow of one step.

        Args:
            load_scale: (n_loads,) share of each load's nominal power, order of ``Grid.loads``.
            p_mw: (n_devices,) positive = injects, order of ``Grid.devices``.
            q_mvar: (n_devices,) positive = injects.
            state: Of an earlier flow.
            move_taps: Let regulators and capacitors act.
            dt_s: Length of the step, against which their delays count.

        Raises:
            PowerFlowDiverged: No solution.
        """
        ...


def network_model(config: SetupConfig, grid: Grid) -> NetworkModel:
    """Return the model of a setup's grid, solved as its plant is.

    Raises:
        ConfigError: No solver of that name is installed, or the setup has tap changers that are
            commanded as devices, whose positions no model knows beforehand.
    """
    if grid.tap_changers:
        names = ", ".join(c.device_id for c in grid.tap_changers)
        expected = "no tap changers that are commanded, for a model of the network"
        raise ConfigError([ConfigProblem("devices", names, expected)])
    found = entry_points(group=GROUP, name=config.engine)
    if not found:
        expected = "an engine that is installed: pip install heron-hil[simulator]"
        raise ConfigError([ConfigProblem("engine", config.engine, expected)])
    (entry, *_) = found
    try:
        make = entry.load()
    except ImportError as error:
        expected = "its packages installed: pip install heron-hil[simulator]"
        raise ConfigError([ConfigProblem("engine", str(error.name), expected)]) from error
    model: NetworkModel = make(grid)
    return model
