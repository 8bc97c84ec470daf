"""How fast training runs: RLlib's own runner, our batched one, and a plain torch loop.

All three train the same network by the same rule on the same setup and engine. Joint steps per
second, learning included, median of the repeats after one to warm up:

    python benchmarks/training_throughput.py [--repeats 3] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import ray
import torch
from torch.distributions import Normal

from training.envs import make_env
from training.envs.vector_env import VectorMicrogrids
from training.options import TrainOptions
from training.rllib.config import env_config
from training.rllib.env import RllibMicrogrids, layout_of
from training.rllib.modules import perceptron
from training.trainer import build_algorithm, start_ray

BATCH, MINIBATCH, EPOCHS, HIDDEN, SCENARIOS = 3072, 1536, 6, (64, 64), 32
GAMMA, LAMBDA, CLIP = 0.99, 0.6, 0.2


def rllib(batched: bool, repeats: int) -> list[float]:
    """Return joint steps per second of each update under RLlib."""
    with tempfile.TemporaryDirectory() as directory:
        options = TrainOptions(
            algorithm="mappo",
            batched=batched,
            num_envs_per_worker=SCENARIOS if batched else 4,
            train_batch_size=BATCH if batched else BATCH // 4,
            minibatch_size=MINIBATCH if batched else MINIBATCH // 4,
            epochs=EPOCHS,
            hidden=HIDDEN,
            counterfactual=False,  # the same rule as the loop's
            checkpoint_dir=Path(directory),
        )
        start_ray(options)
        algo = build_algorithm(options, RllibMicrogrids(env_config(options)))
        try:
            return _rates(lambda: algo.train() and None, options.train_batch_size, repeats)
        finally:
            algo.stop()


def torch_loop(repeats: int) -> list[float]:
    """Return joint steps per second of each update of a loop written by hand."""
    torch.manual_seed(0)
    env = make_env("ieee34_ieee13", {})
    layout = layout_of(env)
    vector = VectorMicrogrids(env, SCENARIOS, seed=0)
    agents = list(env.possible_agents)
    actor = perceptron(layout.obs_dim, HIDDEN, layout.n_actions, 0.01)
    critic = perceptron(layout.obs_dim * len(agents), HIDDEN, len(agents), 1.0)
    log_std = torch.nn.Parameter(torch.full((layout.n_actions,), -1.0))
    parameters = [*actor.parameters(), *critic.parameters(), log_std]
    optimiser = torch.optim.Adam(parameters, 5e-4)
    steps = BATCH // SCENARIOS

    def update() -> None:
        obs = vector.reset()
        seen, acted, logp, rewards = [], [], [], []
        with torch.no_grad():
            for _ in range(steps):
                x = torch.from_numpy(np.stack([layout.pad(a, obs[a]) for a in agents], axis=1))
                dist = Normal(actor(x), log_std.exp())
                u = dist.sample()
                logp.append(dist.log_prob(u).sum(-1))
                clipped = u.clamp(-1, 1).numpy()
                done = vector.step(
                    {a: layout.unpad(a, clipped[:, i]) for i, a in enumerate(agents)}
                )
                obs = done.obs
                seen.append(x)
                acted.append(u)
                rewards.append(torch.from_numpy(done.rewards / 20.0).float())
            value = torch.stack([critic(x.flatten(1)) for x in seen])
            advantage, last = torch.zeros_like(value), torch.zeros_like(value[0])
            for t in reversed(range(steps)):
                following = value[t + 1] if t + 1 < steps else torch.zeros_like(value[0])
                last = rewards[t] + GAMMA * following - value[t] + GAMMA * LAMBDA * last
                advantage[t] = last
        x, u, old = torch.cat(seen), torch.cat(acted), torch.cat(logp)
        target = (advantage + value).flatten(0, 1)
        gain = advantage.flatten(0, 1)
        gain = (gain - gain.mean()) / (gain.std() + 1e-8)
        size = MINIBATCH // len(agents)
        for _ in range(EPOCHS):
            for rows in torch.randperm(len(x)).split(size):
                dist = Normal(actor(x[rows]), log_std.exp())
                ratio = (dist.log_prob(u[rows]).sum(-1) - old[rows]).exp()
                clipped_ratio = ratio.clamp(1 - CLIP, 1 + CLIP)
                policy_loss = -torch.min(ratio * gain[rows], clipped_ratio * gain[rows]).mean()
                value_loss = (critic(x[rows].flatten(1)) - target[rows]).pow(2).mean()
                optimiser.zero_grad()
                (policy_loss + 0.5 * value_loss).backward()
                torch.nn.utils.clip_grad_norm_(parameters, 0.5)
                optimiser.step()

    return _rates(update, BATCH, repeats)


def _rates(update: Callable[[], None], steps: int, repeats: int) -> list[float]:
    update()
    rates = []
    for _ in range(repeats):
        began = time.perf_counter()
        update()
        rates.append(steps / (time.perf_counter() - began))
    return rates


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    measured = {
        "RLlib, its own runner, 4 environments": rllib(False, args.repeats),
        "RLlib, batched runner, 32 scenarios": rllib(True, args.repeats),
        "plain torch loop, 32 scenarios": torch_loop(args.repeats),
    }
    ray.shutdown()
    rates = {name: statistics.median(values) for name, values in measured.items()}
    if args.json:
        print(json.dumps(rates))
        return
    stock, batched, plain = rates.values()
    for name, rate in rates.items():
        print(f"{name:<40}{rate:8.0f} joint steps/s")
    print(f"batched: {batched / stock:.1f} times stock, {batched / plain:.2f} of the plain loop")


if __name__ == "__main__":
    main()
