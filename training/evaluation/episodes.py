"""Runs policies on days of the data and counts what they did, in physical units."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from heron.policy import OnnxPolicy, PolicyCodec
from heron.policy.together import begin, decide
from heron.powergrid.baselines import Baselines
from heron.powergrid.device_configs import GeneratorConfig, StorageConfig
from heron.powergrid.quantities import Measurements
from heron.powergrid.setups import Setup
from training.envs import MultiAgentMicrogrids
from training.envs.event_mode import ActingPolicy
from training.evaluation.lateness import Belated
from training.evaluation.narrow import NarrowPolicy, load_policy

Policies = Mapping[str, ActingPolicy]
"""One policy per coordinator."""


@dataclass(frozen=True, slots=True)
class DayFigures:
    """What happened on one day.

    Attributes:
        day: Day of the data year.
        cost_usd: Cost, less the growth of what is in store at its value.
        safety: Voltage violation and overload, pu node hours.
        objective_usd: ``cost_usd + penalty * safety``.
        reward: Sum of the agents' rewards.
        violation_node_hours: Nodes outside the band, times hours.
        losses_mwh: Losses of the network.
        curtailed_mwh: Energy of sun and wind that was thrown away.
        generated_mwh: Energy of the dispatchable generators.
        cycles: Discharged energy over the capacity of all stores.
        import_mwh: Energy from the upstream grid, net.
        tap_moves: Steps of all regulators.
        v_min_pu: Lowest node voltage of the day.
        v_max_pu: Highest node voltage of the day.
        diverged: Whether a power flow found no solution, which ended the day.
    """

    day: int
    cost_usd: float
    safety: float
    objective_usd: float
    reward: float
    violation_node_hours: float
    losses_mwh: float
    curtailed_mwh: float
    generated_mwh: float
    cycles: float
    import_mwh: float
    tap_moves: int
    v_min_pu: float
    v_max_pu: float
    diverged: bool


def run_day(
    env: MultiAgentMicrogrids,
    policies: Policies,
    day: int,
    on_step: Callable[[Measurements], None] | None = None,
    *,
    late: int = 0,
) -> DayFigures:
    """Run one episode that starts on a given day.

    Args:
        env: The environment.
        policies: One for each of its agents.
        day: Day of the data year.
        on_step: Called with the measurements after each step, for plots.
        late: Control steps by which all that the policies see is late.
    """
    eyes = {a: Belated(codec, late) for a, codec in env.codecs.items()}
    obs, _ = env.reset(seed=0, options={"day": day})
    begin(policies)
    sums = dict.fromkeys(_SUMMED, 0.0)
    v_min, v_max, reward, diverged = np.inf, -np.inf, 0.0, False
    while env.agents:
        actions = decide(policies, {a: eyes[a].show(obs[a]) for a in env.agents})
        obs, rewards, terminated, _, _ = env.step(actions)
        reward += sum(rewards.values())
        if any(terminated.values()):
            diverged = True
            break
        m = env.measurements
        _add(sums, env, m)
        v_min = min(v_min, *(a.v_min_pu for a in m.areas.values()))
        v_max = max(v_max, *(a.v_max_pu for a in m.areas.values()))
        if on_step is not None:
            on_step(m)
    return DayFigures(
        day=day,
        objective_usd=sums["cost_usd"] + env.penalty * sums["safety"],
        reward=reward,
        tap_moves=int(sums.pop("tap_moves")),
        v_min_pu=float(v_min),
        v_max_pu=float(v_max),
        diverged=diverged,
        **sums,
    )


def run_days(
    env: MultiAgentMicrogrids, policies: Policies, days: Sequence[int], *, late: int = 0
) -> list[DayFigures]:
    """Run one episode for each day; see `run_day`."""
    return [run_day(env, policies, int(day), late=late) for day in days]


def mean_figures(figures: Sequence[DayFigures]) -> dict[str, float]:
    """Return the mean of each figure over the days, and how many days had a violation."""
    rows = [asdict(f) for f in figures]
    means = {k: float(np.mean([r[k] for r in rows])) for k in rows[0] if k != "day"}
    means["days_with_violation"] = float(np.mean([r["safety"] > 0.0 for r in rows]))
    means["v_min_pu"] = float(min(r["v_min_pu"] for r in rows))
    means["v_max_pu"] = float(max(r["v_max_pu"] for r in rows))
    means["days"] = float(len(rows))
    return means


def baseline(name: str, setup: Setup, codecs: Mapping[str, PolicyCodec]) -> Policies:
    """Return a baseline by its name; see `heron.powergrid.baselines.BASELINES`.

    Raises:
        ConfigError: No such baseline, or it does not fit the setup.
    """
    return Baselines(setup, codecs).policies(name)


def load_policies(
    path: Any, codecs: Mapping[str, PolicyCodec]
) -> dict[str, OnnxPolicy | NarrowPolicy]:
    """Load one policy file per agent from a directory: ``<agent>.onnx``.

    One that was trained with a smaller visibility level is given its part of the observation.

    Raises:
        PolicyError: A file is missing, damaged or made for another codec.
    """
    return {agent: load_policy(path / f"{agent}.onnx", c) for agent, c in codecs.items()}


_SUMMED = (
    "cost_usd",
    "safety",
    "violation_node_hours",
    "losses_mwh",
    "curtailed_mwh",
    "generated_mwh",
    "cycles",
    "import_mwh",
    "tap_moves",
)


def _add(sums: dict[str, float], env: MultiAgentMicrogrids, m: Measurements) -> None:
    h = m.dt_s / 3600.0
    accounts = env.accounts
    if accounts is None:
        return
    sums["cost_usd"] += accounts.cost_usd
    sums["safety"] += accounts.safety
    sums["violation_node_hours"] += h * sum(a.violating_nodes for a in m.areas.values())
    sums["losses_mwh"] += h * m.losses_mw
    sums["import_mwh"] += h * m.meters["head"].p_mw
    sums["tap_moves"] += m.tap_moves
    capacity = 0.0
    discharged = 0.0
    for device, reading in m.devices.items():
        config = env.setup.config.device(device).device_state_config
        if isinstance(config, GeneratorConfig):
            sums["generated_mwh"] += h * reading.p_mw
        elif isinstance(config, StorageConfig):
            capacity += config.e_capacity_mwh
            discharged += h * max(0.0, reading.p_mw)
        if reading.available_mw is not None:
            sums["curtailed_mwh"] += h * max(0.0, reading.available_mw - reading.p_mw)
    if capacity:
        sums["cycles"] += discharged / capacity
