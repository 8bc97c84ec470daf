"""How soon a training run is good: steps and minutes to a share of what it gains in the end.

The gain is what a policy saves on the validation days against doing nothing. With a run's
directory it reads that run's figures; without one it trains first, as ``heron train`` does:

    python benchmarks/learning_speed.py [RUN] [--setup NAME] [--share 0.9] [--json]
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from training.envs import make_env
from training.evaluation.episodes import baseline, mean_figures, run_days
from training.options import make_options
from training.trainer import VALIDATION_STRIDE, options_of, train

EVALUATE_FREQ = 10
STEPS_BAR, SECONDS_BAR = 300_000, 600.0


@dataclass(frozen=True)
class Speed:
    """When a run had reached a share of its final gain.

    Attributes:
        share: The share.
        env_steps: Joint steps until then.
        seconds: Wall seconds until then.
        gain_usd: What it saved a day then.
        final_usd: What the best policy of the run saves.
        total_steps: Joint steps of the whole run.
        total_seconds: Its wall seconds.
    """

    share: float
    env_steps: int
    seconds: float
    gain_usd: float
    final_usd: float
    total_steps: int
    total_seconds: float


def speed_of(run: Path, nothing_usd: float, share: float) -> Speed:
    """Return when a run had reached a share of its final gain; ``nothing_usd`` gains nothing."""
    with (run / "progress.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    evaluated = [row for row in rows if row["validation_usd"]]
    gains = [nothing_usd - float(row["validation_usd"]) for row in evaluated]
    final = max(gains)
    first = next(i for i, gain in enumerate(gains) if gain >= share * final)
    return Speed(
        share,
        int(evaluated[first]["env_steps"]),
        float(evaluated[first]["seconds"]),
        gains[first],
        final,
        int(rows[-1]["env_steps"]),
        float(rows[-1]["seconds"]),
    )


def nothing_on_validation_days(setup: str) -> float:
    """Return what doing nothing costs a day, penalty included."""
    env = make_env(setup, {})
    days = [int(day) for day in env.setup.profiles.train_days[::VALIDATION_STRIDE]]
    figures = run_days(env, baseline("none", env.setup, env.codecs), days)
    return mean_figures(figures)["objective_usd"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path, help="directory of a run with evaluations")
    parser.add_argument("--setup", default="ieee34_ieee13")
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run, setup = args.run, args.setup
        if run is None:
            run = Path(scratch)
            chosen = {"setup": setup, "evaluate_freq": EVALUATE_FREQ, "checkpoint_dir": run}
            train(make_options({**chosen, "checkpoint_freq": 0}), lambda update: None)
        else:
            setup = options_of(run).setup
        speed = speed_of(run, nothing_on_validation_days(setup), args.share)
    if args.json:
        print(json.dumps(asdict(speed)))
        return
    good = speed.env_steps <= STEPS_BAR and speed.seconds <= SECONDS_BAR
    print(
        f"{setup}: {speed.gain_usd:.1f} of {speed.final_usd:.1f} $ a day "
        f"({speed.gain_usd / speed.final_usd:.1%}) after {speed.env_steps:,} joint steps and "
        f"{speed.seconds:.0f} s; the whole run {speed.total_steps:,} steps, "
        f"{speed.total_seconds:.0f} s\n{args.share:.0%} within {STEPS_BAR:,} steps and "
        f"{SECONDS_BAR:.0f} s: {'yes' if good else 'no'}"
    )


if __name__ == "__main__":
    main()
