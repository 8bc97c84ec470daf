"""Measure whether a setup is worth controlling: over every day of its data year.

    python scripts/check_setup.py ieee34_ieee13 [--json]

Each day starts from its reset and is walked through at the setup's step, all days at once:
doing nothing, with random set-points, with set-points in the corners of their ranges, and with
each inverter's volt-var curve (IEEE 1547-2018, category B) on the voltage of the step before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import HeronError
from heron.powergrid.ieee1547 import volt_var
from heron.powergrid.setups import Setup, read_setup
from simulator import BatchPlant
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]
Controller = Callable[[BatchMeasurements], tuple[FloatArray, FloatArray]]
CHUNK = 64
"""Days that are walked through together."""


@dataclass(frozen=True)
class Walk:
    """What came of one controller over the year; shares are of days unless they say steps."""

    steps: int
    unsolved_steps: int
    days_violating: float
    days_undervoltage: float
    days_overvoltage: float
    steps_violating: float
    violation_pu_h_a_day: float
    days_overloaded: float
    head_mw_lowest: float
    head_mw_highest: float
    reverse_steps: float
    load_mw_mean: float
    load_mw_highest: float
    losses_share: float
    tap_moves_a_day: float


def walk(setup: Setup, controller_for: Callable[[BatchPlant], Controller]) -> Walk:
    """Walk through every day of the year with one controller."""
    step_s = setup.config.step_s
    rows: list[FloatArray] = []
    days = np.arange(setup.profiles.n_days)
    for chunk in np.array_split(days, max(1, len(days) // CHUNK)):
        plant = BatchPlant(setup, len(chunk))
        seen = plant.reset(chunk * 86_400.0)
        controller = controller_for(plant)
        day: list[FloatArray] = []
        for _ in range(round(86_400.0 / step_s)):
            seen = plant.step(*controller(seen), step_s)
            areas = seen.areas
            day.append(
                np.stack(
                    [
                        seen.solved,
                        areas.undervoltage_pu.sum(axis=1),
                        areas.overvoltage_pu.sum(axis=1),
                        areas.overload_pu.sum(axis=1),
                        seen.meter_p_mw[:, 0],
                        areas.load_mw.sum(axis=1),
                        seen.losses_mw,
                        seen.tap_moves,
                    ],
                    axis=1,
                )
            )
        rows.append(np.stack(day, axis=1))
    solved, under, over, overload, head, load, losses, taps = np.concatenate(rows).transpose(
        2, 0, 1
    )
    ok = solved > 0.0
    violation = np.where(ok, under + over, 0.0)
    return Walk(
        steps=ok.size,
        unsolved_steps=int((~ok).sum()),
        days_violating=float((violation > 0.0).any(axis=1).mean()),
        days_undervoltage=float((np.where(ok, under, 0.0) > 0.0).any(axis=1).mean()),
        days_overvoltage=float((np.where(ok, over, 0.0) > 0.0).any(axis=1).mean()),
        steps_violating=float((violation > 0.0).mean()),
        violation_pu_h_a_day=float(violation.sum(axis=1).mean() * step_s / 3600.0),
        days_overloaded=float((np.where(ok, overload, 0.0) > 0.0).any(axis=1).mean()),
        head_mw_lowest=float(np.nanmin(head)),
        head_mw_highest=float(np.nanmax(head)),
        reverse_steps=float((head < 0.0).mean()),
        load_mw_mean=float(load.mean()),
        load_mw_highest=float(load.max()),
        losses_share=float(np.nansum(losses) / load[ok].sum()),
        tap_moves_a_day=float(taps.sum(axis=1).mean()),
    )


def controllers(setup: Setup, seed: int) -> dict[str, Callable[[BatchPlant], Controller]]:
    """Return the controllers by name."""
    configs = [setup.config.device(d).device_state_config for d in setup.config.device_ids]
    p_range = np.array([c.p_range_mw for c in configs])
    q_range = np.array([c.q_range_mvar for c in configs])
    rating = np.array([c.s_max_mva or max(map(abs, c.p_range_mw)) for c in configs])
    rng = np.random.default_rng(seed)

    def idle(plant: BatchPlant) -> Controller:
        start = plant.measurements
        return lambda _: (start.p_set_mw, start.q_set_mvar)

    def uniform(plant: BatchPlant) -> Controller:
        shape = (plant.n, len(configs))
        return lambda _: (
            rng.uniform(p_range[:, 0], p_range[:, 1], shape),
            rng.uniform(q_range[:, 0], q_range[:, 1], shape),
        )

    def corners(plant: BatchPlant) -> Controller:
        def choose(limits: FloatArray) -> FloatArray:
            high = rng.random((plant.n, len(configs))) < 0.5
            return np.where(high, limits[:, 1], limits[:, 0])

        return lambda _: (choose(p_range), choose(q_range))

    def droop(plant: BatchPlant) -> Controller:
        p_idle = plant.measurements.p_set_mw
        q_last = [plant.measurements.q_set_mvar]

        def act(seen: BatchMeasurements) -> tuple[FloatArray, FloatArray]:
            wanted = np.clip(volt_var(seen.v_pu[:, :, 0]) * rating, q_range[:, 0], q_range[:, 1])
            # Half way only: the full answer to a voltage that is one step old swings.
            q_last[0] = 0.5 * (q_last[0] + np.where(np.isfinite(wanted), wanted, 0.0))
            return p_idle, q_last[0]

        return act

    return {"idle": idle, "random": uniform, "corners": corners, "volt-var": droop}


def main(argv: list[str]) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setup")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    try:
        setup = read_setup(args.setup)
        walks = {name: walk(setup, make) for name, make in controllers(setup, args.seed).items()}
    except HeronError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if args.json:
        sys.stdout.write(json.dumps({name: asdict(w) for name, w in walks.items()}) + "\n")
        return 0
    rows = [
        [key, *(f"{getattr(w, key):.4g}" for w in walks.values())]
        for key in Walk.__dataclass_fields__
    ]
    lines = [["", *walks], ["---"] * (1 + len(walks)), *rows]
    sys.stdout.write("\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
