"""What the network's shield takes from violations, beside the policy alone and the optimum.

Each runs the same held-out days. A bus-hour is one node out of the voltage band for an hour; those
at which the optimum is out of the band, too, at the same node in the same step, are counted apart.
What the linear model, the expectation of a step and the model of the network were off by is printed
as quantiles over the steps, and so is the processor time of a decision of all coordinators.

Run ``python -m benchmarks.network_shield [--every N] [POLICY]``. It prints one line a figure and
exits 0.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from heron.policy.together import begin, decide
from heron.powergrid.optimization.next_step import StepOutlook
from heron.powergrid.shipped import shipped_policies
from simulator.engines.base import Injections
from training.envs import MultiAgentMicrogrids, make_env
from training.evaluation.episodes import Policies
from training.evaluation.references import known_optima, plan_policies
from training.evaluation.sources import policies_named

SETUP = "ieee34_ieee13"
Place = tuple[int, int, int]
"""A node out of its band: day, step, number of the node."""


class Ward:
    """Runs days, and finds every node that is out of its band."""

    def __init__(self, env: MultiAgentMicrogrids) -> None:
        self._env = env
        plant = env.net
        self._loads = StepOutlook(env.setup, plant.grid, tail=0.0)
        buses = plant.grid.bus_by_name
        self._watched = np.array([buses[bus].monitored for bus, _ in plant.engine.nodes])
        self._cost_usd = self._safety = 0.0
        self.decide_ms: list[float] = []

    def run(self, policies: Policies, days: Sequence[int]) -> tuple[set[Place], float, float]:
        """Return the nodes out of their band, and $ and pu node h a day."""
        env, out = self._env, set()
        cost = safety = 0.0
        for day in days:
            obs, _ = env.reset(seed=0, options={"day": int(day)})
            begin(policies)
            step = 0
            while env.agents:
                start = time.process_time()
                actions = decide(policies, {a: obs[a] for a in env.agents})
                self.decide_ms.append(1e3 * (time.process_time() - start))
                obs, *_ = env.step(actions)
                assert env.accounts is not None
                cost, safety = cost + env.accounts.cost_usd, safety + env.accounts.safety
                out |= {(int(day), step, int(k)) for k in self._outside()}
                step += 1
        return out, cost / len(days), safety / len(days)

    def _outside(self) -> Any:
        plant, m = self._env.net, self._env.measurements
        if not any(area.violating_nodes for area in m.areas.values()):
            return ()
        devices = [m.devices[d] for d in self._env.setup.config.device_ids]
        injections = Injections(
            self._loads.last(m.time_s).load_scale,
            np.array([d.p_mw for d in devices]),
            np.array([d.q_mvar for d in devices]),
        )
        v = np.abs(plant.engine.solve(injections, plant.state.grid, move_taps=False).v_pu)
        low, high = self._env.setup.config.v_limits_pu
        return np.flatnonzero(self._watched & ((v < low) | (v > high)))


def quantiles(values: Sequence[float]) -> str:
    """Return median, 90 and 99 % and the largest."""
    if not values:
        return "none"
    return " / ".join(f"{x:.4f}" for x in np.quantile(values, [0.5, 0.9, 0.99, 1.0]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("policy", nargs="?", help="default: the policies that ship")
    parser.add_argument("--every", type=int, default=7, help="every so many-th test day")
    args = parser.parse_args(argv)
    env = make_env(SETUP, {})
    name = args.policy or str(shipped_policies(env.setup))
    book = known_optima(env.setup)
    days = [d for d in env.setup.profiles.test_days[:: args.every].tolist() if d in book.plans]
    ward = Ward(env)
    print(f"{len(days)} test days; bus-hours and figures a day")
    optimum, *figures = ward.run(plan_policies(env, book), days)
    report("optimum", optimum, optimum, figures, len(days))
    for label in (name, f"shield-network:{name}"):
        policies = policies_named(label, env)
        ward.decide_ms.clear()
        out, *figures = ward.run(policies, days)
        report("alone" if label == name else "shielded", out, optimum, figures, len(days))
    record = next(iter(policies.values())).shield.record  # type: ignore[attr-defined]
    print(
        f"steps {record.steps}, moved {record.moved}, some course still outside "
        f"{record.unresolved}, blind {record.blind}"
    )
    print("quantiles 50 / 90 / 99 / 100 %:")
    print(f"linear model off the power flow, moved steps, pu: {quantiles(record.linear_pu)}")
    print(f"expected off what came, worst node of a step, pu: {quantiles(record.step_pu)}")
    print(f"model off what devices measure, worst of a step, pu: {quantiles(record.meter_pu)}")
    print(f"decision of all coordinators, ms of processor time: {quantiles(ward.decide_ms)}")


def report(
    name: str, out: set[Place], optimum: set[Place], figures: Sequence[float], n_days: int
) -> None:
    """Print one line."""
    hours = 0.25 / n_days
    cost, safety = figures
    print(
        f"{name:9} {cost:8.1f} $ {safety:8.4f} pu node h {hours * len(out):6.2f} bus-hours, "
        f"{hours * len(out - optimum):.2f} of them where the optimum has none; "
        f"{len({place[:2] for place in out})} steps",
        flush=True,
    )


if __name__ == "__main__":
    main()
