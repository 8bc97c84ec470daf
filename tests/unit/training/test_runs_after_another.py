"""One process may train one thing after the other, of different setups and ways to sample."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.options import make_options
from training.rllib.config import env_config
from training.rllib.env import RllibMicrogrids
from training.trainer import build_algorithm

pytestmark = pytest.mark.usefixtures("ray_session")


def test_the_second_run_of_a_process_samples_its_own_setup_and_nothing_is_warned_of() -> None:
    runs = (("single_microgrid", True), ("ieee34_ieee13", False), ("single_microgrid", True))
    for setup, batched in runs:
        options = make_options(
            {
                "setup": setup,
                "batched": batched,
                "num_envs_per_worker": 1,
                "hidden": (8,),
                "idle_baseline": False,
                "checkpoint_dir": Path("unused"),
            }
        )
        algo = build_algorithm(options, RllibMicrogrids(env_config(options)))
        try:
            sampled: RllibMicrogrids = algo.env_runner_group.local_env_runner.env.envs[0].unwrapped
            assert sampled.inner.setup.config.name == setup
        finally:
            algo.stop()
