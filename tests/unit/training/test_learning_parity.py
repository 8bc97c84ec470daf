"""The batched runner is faster than RLlib's own; it must not learn anything else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.envs import make_env
from training.evaluation.episodes import baseline, mean_figures, run_days
from training.options import make_options
from training.trainer import VALIDATION_STRIDE, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

SEEDS = (0, 1)


def learned(directory: Path, *, batched: bool) -> tuple[float, float]:
    """Return the validation objective and the last returns, both as means over the seeds."""
    objectives, returns = [], []
    for seed in SEEDS:
        options = {
            "setup": "single_microgrid",
            "batched": batched,
            "idle_baseline": False,
            "local_credit": False,
            "storage_shaping": False,
            "std": 0.37,
            "std_end": None,
            "num_envs_per_worker": 8 if batched else 1,
            "iterations": 8,
            "train_batch_size": 768,
            "minibatch_size": 256,
            "hidden": (32, 32),
            "lr": 3e-3,
            "seed": seed,
            "evaluate_freq": 8,
            "checkpoint_freq": 0,
            "checkpoint_dir": directory / f"{batched}-{seed}",
        }
        updates = train(make_options(options), lambda update: None).updates
        assert updates[-1].validation_usd is not None
        objectives.append(updates[-1].validation_usd)
        ended = [update.episode_return for update in updates if update.episode_return is not None]
        returns += ended[-3:]
        assert len(ended) == len(updates)
        assert ended[0] < -2000.0
    return float(np.mean(objectives)), float(np.mean(returns))


def test_both_runners_learn_the_same_from_the_same_number_of_steps(tmp_path: Path) -> None:
    env = make_env("single_microgrid", {})
    days = [int(day) for day in env.setup.profiles.train_days[::VALIDATION_STRIDE]]
    idle = baseline("none", env.setup, env.codecs)
    nothing = mean_figures(run_days(env, idle, days))["objective_usd"]
    ours, our_return = learned(tmp_path, batched=True)
    theirs, their_return = learned(tmp_path, batched=False)
    # 1011 to 1030 $ a day, by seed and runner; exploring costs the returns some 400 $ a day
    assert max(ours, theirs) < nothing - 30.0
    assert ours == pytest.approx(theirs, abs=25.0)
    assert our_return == pytest.approx(their_return, abs=250.0)
