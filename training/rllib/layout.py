"""How unequal microgrids share one network: common slots, padding and masks.

Two microgrids differ in their devices, so their observations and actions differ in length and
meaning. A slot names a number by its role, e.g. "the state of charge of the first ESS"; the
shared network has the union of all agents' slots, an agent fills its own, and a one-hot code
says which agent it is. Slots that an agent does not have stay zero and take no part in its loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

Slot = tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions of each agent's numbers in the shared network.

    Attributes:
        agents: Agents, in order.
        n_slots: Observation slots, without the one-hot code behind them.
        n_actions: Action slots.
        obs_index: Per agent, the slot of each of its observation's numbers.
        act_index: Per agent, the slot of each of its action's numbers.
    """

    agents: tuple[str, ...]
    n_slots: int
    n_actions: int
    obs_index: Mapping[str, IntArray]
    act_index: Mapping[str, IntArray]

    @classmethod
    def of(cls, codecs: Mapping[str, PolicyCodec], device_types: Mapping[str, str]) -> Layout:
        """Build from the agents' codecs.

        Args:
            codecs: Codec per agent, in order.
            device_types: Type of each device, by which devices are matched between agents.
        """
        obs: dict[Slot, int] = {}
        act: dict[Slot, int] = {}
        obs_index, act_index = {}, {}
        for agent, codec in codecs.items():
            roles = _roles(codec, device_types)
            fields = [(roles[f.agent], f.feature, f.field) for f in codec.fields]
            setpoints = [(roles[s.agent], s.quantity) for s in codec.setpoints]
            obs_index[agent] = _place(fields, obs)
            act_index[agent] = _place(setpoints, act)
        return cls(tuple(codecs), len(obs), len(act), obs_index, act_index)

    @property
    def obs_dim(self) -> int:
        """Length of the shared network's input: slots and one-hot code."""
        return self.n_slots + len(self.agents)

    @property
    def action_masks(self) -> FloatArray:
        """(n_agents, n_actions), 1 where the agent has the action."""
        masks = np.zeros((len(self.agents), self.n_actions), dtype=np.float32)
        for row, agent in enumerate(self.agents):
            masks[row, self.act_index[agent]] = 1.0
        return masks

    def one_hot(self, agent: str) -> FloatArray:
        """Return the code of an agent, (n_agents,)."""
        code = np.zeros(len(self.agents), dtype=np.float32)
        code[self.agents.index(agent)] = 1.0
        return code

    def pad(self, agent: str, obs: FloatArray) -> FloatArray:
        """Return an agent's observation as the shared network wants it, (..., obs_dim)."""
        out = np.zeros((*obs.shape[:-1], self.obs_dim), dtype=np.float32)
        out[..., self.obs_index[agent]] = obs
        out[..., self.n_slots + self.agents.index(agent)] = 1.0
        return out

    def unpad(self, agent: str, action: FloatArray) -> FloatArray:
        """Return an agent's own part of the shared network's action, (..., act_dim)."""
        return action[..., self.act_index[agent]]


def _roles(codec: PolicyCodec, device_types: Mapping[str, str]) -> dict[str, str]:
    """Name each owner by its role: the coordinator, or the k-th device of a type."""
    roles = {codec.agent_id: "coordinator"}
    counts: dict[str, int] = {}
    for owner in [*(s.agent for s in codec.setpoints), *(f.agent for f in codec.fields)]:
        if owner not in roles:
            kind = device_types.get(owner, owner)
            roles[owner] = f"{kind}#{counts.get(kind, 0)}"
            counts[kind] = counts.get(kind, 0) + 1
    return roles


def _place(slots: Sequence[Slot], known: dict[Slot, int]) -> IntArray:
    for slot in slots:
        known.setdefault(slot, len(known))
    return np.array([known[slot] for slot in slots], dtype=np.int64)
