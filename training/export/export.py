"""From a trained algorithm to policy files."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ray.rllib.core.columns import Columns

from heron.errors import ExportParityError
from heron.policy import Manifest, OnnxPolicy, PolicyCodec
from training.export.graph import FloatArray, Network, to_onnx
from training.rllib.layout import Layout
from training.rllib.modules import OBS_CLIP, ActorCritic

PARITY_TOLERANCE = 1e-5
"""Largest difference between the trained and the exported policy, of actions in [-1, 1]."""

PARITY_BATCH = 2048


def network_of(module: ActorCritic, group: int) -> Network:
    """Return the deterministic actor of a module for one of the agents that share it."""
    layers = [layer for layer in module.actor if isinstance(layer, torch.nn.Linear)]
    code = torch.zeros(module.n_code)
    return Network(
        mean=_array(torch.cat([module.obs_norm.mean[group], code])),
        std=_array(torch.cat([module.obs_norm.std[group], torch.ones_like(code)])),
        clip=OBS_CLIP,
        weights=tuple(_array(layer.weight) for layer in layers),
        biases=tuple(_array(layer.bias) for layer in layers),
    )


def agent_network(module: ActorCritic, agent: str, layout: Layout | None) -> Network:
    """Return an agent's own network: without padding, with its code as a constant."""
    if layout is None:
        return network_of(module, 0)
    constants = np.zeros(layout.obs_dim, dtype=np.float32)
    constants[layout.n_slots :] = layout.one_hot(agent)
    network = network_of(module, layout.agents.index(agent))
    return network.restricted(layout.obs_index[agent], layout.act_index[agent], constants)


def module_actions(
    module: ActorCritic, agent: str, layout: Layout | None, obs: FloatArray
) -> FloatArray:
    """Return what the trained module itself decides, by the path that training takes."""
    padded = obs if layout is None else layout.pad(agent, obs)
    with torch.no_grad():
        out = module.forward_inference({Columns.OBS: torch.from_numpy(padded)})
        inputs = out[Columns.ACTION_DIST_INPUTS]
        chosen = module.get_inference_action_dist_cls().from_logits(inputs)
        action = np.clip(chosen.to_deterministic().sample().numpy(), -1.0, 1.0)
    return action if layout is None else layout.unpad(agent, action)


def write_policy(
    path: Path,
    module: ActorCritic,
    codec: PolicyCodec,
    layout: Layout | None,
    facts: Mapping[str, Any],
) -> float:
    """Write one agent's policy file, after its parity was checked.

    Args:
        path: File to write; replaced atomically.
        module: The trained module.
        codec: The agent's codec.
        layout: Of the shared network; None where the agent has its own.
        facts: What else the manifest says.

    Returns:
        Largest difference between the trained and the exported policy.

    Raises:
        ExportParityError: It is above the tolerance; nothing is written.
    """
    network = agent_network(module, codec.agent_id, layout)
    part = path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)

    def blob(parity_error: float) -> bytes:
        manifest = Manifest(
            agent_id=codec.agent_id,
            codec=codec.to_dict(),
            codec_hash=codec.hash,
            obs_mean=tuple(network.mean.tolist()),
            obs_std=tuple(network.std.tolist()),
            parity_error=parity_error,
            **facts,
        )
        return to_onnx(network, manifest)

    try:
        part.write_bytes(blob(0.0))
        obs = _parity_batch(network)
        exported = OnnxPolicy.load(part, codec).act(obs)
        trained = module_actions(module, codec.agent_id, layout, obs)
        error = float(np.abs(exported - trained).max())
        if not error <= PARITY_TOLERANCE:
            raise ExportParityError(error, PARITY_TOLERANCE)
        part.write_bytes(blob(error))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return error


def software() -> dict[str, str]:
    """Return the versions of what makes a policy."""
    names = ("heron-hil", "ray", "torch", "onnx", "numpy")
    return {"python": platform.python_version(), **{n: version(n) for n in names}}


def now_utc() -> str:
    """Return the date and time for a manifest."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parity_batch(network: Network) -> FloatArray:
    rng = np.random.default_rng(0)
    spread = rng.normal(size=(PARITY_BATCH, network.mean.size)) * 3.0
    return (network.mean + spread * network.std).astype(np.float32)


def _array(tensor: torch.Tensor) -> FloatArray:
    return tensor.detach().cpu().numpy().astype(np.float32)
