"""What of a store's power counts at the feeder's head, where the price is made: losses are local.

A MWh that a store takes at noon, beside the sun, costs less than a MWh at the head; one that it
gives in the evening, at the far end of a loaded line, saves more. Both differ from the price by
what the network loses, which changes with its load, and by what the store itself adds to the
flow. It is measured in the plant, on every training day, with all devices as a policy has them,
and serves learning only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.storage_worth import Delivery
from training.envs.days import DAY_S
from training.envs.multi_agent_microgrids import MultiAgentMicrogrids
from training.envs.vector_env import Observations, VectorMicrogrids

FloatArray = npt.NDArray[np.float64]

PROBE = 0.3
"""Power by which a store is moved to measure, as a share of its greatest."""
SHARE_RANGE = (0.5, 1.5)
LOSS_RANGE = (0.0, 0.25)
"""Ranges of a share and of what it falls by at full power: a regulator that moves its taps between
two measurements leaves values that have nothing to do with losses."""
WINDOW_H = 2.75
"""Time over which the measurements are averaged, for the same reason."""


def deliveries(
    env: MultiAgentMicrogrids, act: Callable[[Observations], Observations]
) -> dict[str, Delivery]:
    """Return each store's delivery over the data year, (n_days, T), by its name.

    On days that are no training days all of its power counts. Empty where there is no store, or
    episodes are no whole days.

    Args:
        env: The environment.
        act: The policy: actions for observations, (N, ...) an agent.
    """
    config, profiles = env.setup.config, env.setup.profiles
    per_day = round(DAY_S / config.step_s)
    powers = {
        k: min(device.p_max_mw, -device.p_min_mw)
        for k, d in enumerate(config.device_ids)
        if isinstance(device := config.device(d).device_state_config, StorageConfig)
    }
    powers = {k: p for k, p in powers.items() if p > 0.0}
    if not powers or config.max_episode_steps % per_day:
        return {}
    days = profiles.train_days
    vector = VectorMicrogrids(env, len(days), seed=0)
    obs = vector.reset(days.tolist())
    measured = []
    for _ in range(per_day):
        actions = act(obs)
        measured.append(_measure(vector, powers, actions))
        obs = vector.step(actions).obs
    shares, losses = (np.stack(x, axis=-1) for x in zip(*measured, strict=True))
    window = max(1, round(WINDOW_H * 3600.0 / config.step_s))
    out = {}
    for i, (k, p) in enumerate(powers.items()):
        share, loss = np.ones((profiles.n_days, per_day)), np.zeros((profiles.n_days, per_day))
        share[days] = _smooth(np.clip(shares[i], *SHARE_RANGE), window)
        loss[days] = _smooth(np.clip(losses[i] * p, *LOSS_RANGE), window) / p
        out[config.device_ids[k]] = Delivery(share, loss)
    return out


def _measure(
    vector: VectorMicrogrids, powers: dict[int, float], actions: Observations
) -> tuple[FloatArray, FloatArray]:
    """Return share and loss per MW of each store in the step that is to come, (n_stores, N)."""
    n, n_devices = vector.n, vector.measurements.p_mw.shape[1]
    probes = np.zeros((1 + 2 * len(powers), n_devices))
    for i, (k, p) in enumerate(powers.items()):
        probes[1 + 2 * i, k], probes[2 + 2 * i, k] = PROBE * p, -PROBE * p
    rows = np.tile(np.arange(n), len(probes))
    own = {agent: values[rows] for agent, values in actions.items()}
    seen = vector.look_ahead(rows, own, np.repeat(probes, n, axis=0)).after
    head = seen.meter_p_mw[:, 0].reshape(len(probes), n)
    moved = seen.p_mw.reshape(len(probes), n, n_devices)
    share, loss = np.full((len(powers), n), np.nan), np.full((len(powers), n), np.nan)
    for i, (k, p) in enumerate(powers.items()):
        up, down = 1 + 2 * i, 2 + 2 * i
        width = moved[up, :, k] - moved[down, :, k]
        wide = width > PROBE * p
        share[i, wide] = ((head[down] - head[up])[wide]) / width[wide]
        # The bend shows only where neither way was cut short.
        whole = width > 1.9 * PROBE * p
        bend = head[up] + head[down] - 2.0 * head[0]
        loss[i, whole] = bend[whole] / (0.5 * width[whole] ** 2)
    return share, loss


def _smooth(values: FloatArray, window: int) -> FloatArray:
    """Return the moving mean over a day, (n_days, T), of what is known; else the mean of all."""
    kernel, known = np.ones(window), np.isfinite(values)
    count = np.stack([np.convolve(row, kernel, mode="same") for row in known.astype(np.float64)])
    filled = np.where(known, values, 0.0)
    total = np.stack([np.convolve(row, kernel, mode="same") for row in filled])
    mean = filled.sum() / max(1, known.sum())
    return np.where(count > 0.5, total / np.maximum(count, 1.0), mean)
