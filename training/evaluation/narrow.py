"""Policies that were trained to see less, beside others that see all that a coordinator may.

What ``--visibility-level owner`` or ``public`` leaves of an observation is a part of the usual one.
So the environment shows everybody the usual one, and such a policy is given its part of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from heron.policy import OnnxPolicy, PolicyCodec
from heron.policy.codec import FloatArray

NARROW = ("owner", "public")
"""Levels of visibility whose observation is a part of the usual one."""
USUAL = "upper_level"


class NarrowPolicy:
    """A policy that is given the part of an observation that it was trained to see.

    Args:
        policy: Trained on the part.
        codec: Of the whole observation; it holds all fields of the policy's.
    """

    def __init__(self, policy: OnnxPolicy, codec: PolicyCodec) -> None:
        self._policy = policy
        position = {spec: i for i, spec in enumerate(codec.fields)}
        self._columns = np.array([position[spec] for spec in policy.codec.fields], dtype=np.intp)

    def act(self, obs: Any) -> FloatArray:
        """Return the action in [-1, 1] for the whole scaled observation, (obs_dim,)."""
        return self._policy.act(np.asarray(obs, np.float32)[..., self._columns])


def load_policy(path: Path, codec: PolicyCodec) -> OnnxPolicy | NarrowPolicy:
    """Load a policy for an observation of which it may have been trained on a part.

    Raises:
        ManifestMismatch: It was made for another codec.
        PolicyError: The file is missing or damaged.
    """
    policy = OnnxPolicy.load(path)
    level = policy.manifest.training.get("visibility_level", USUAL)
    if level in NARROW and _is_part(policy.codec, codec):
        return policy if policy.codec == codec else NarrowPolicy(policy, codec)
    seen = "" if level == USUAL else f" (trained with visibility level {level})"
    policy.codec.require_same(codec, f"{path}{seen}")
    return policy


def _is_part(part: PolicyCodec, whole: PolicyCodec) -> bool:
    same = (part.agent_id, part.setpoints) == (whole.agent_id, whole.setpoints)
    return same and set(part.fields) <= set(whole.fields)
