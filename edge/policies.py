"""Policies that decide at the device; see `heron.powergrid.policy_slot`."""

from __future__ import annotations

from pathlib import Path

from heron.policy import PolicyCodec, codec_of
from heron.powergrid import policy_slot
from heron.powergrid.agents import DeviceAgent
from heron.powergrid.quantities import DeviceReading, Setpoint


def device_codec(agent: DeviceAgent) -> PolicyCodec:
    """Return the codec of a policy that decides for one device from its own features."""
    fields = codec_of(agent, view="owner").fields
    return PolicyCodec(agent.agent_id, fields, tuple(agent.setpoint_specs()))


class PolicySlot(policy_slot.PolicySlot):
    """The policy of one device agent; call it to decide.

    Args:
        agent: Its features are observed, its action is decoded.
        path: File of the active policy.
        candidate: File of a policy that decides in the shadow, or None.
        key: Public key (64 hex characters) that must have signed the files.

    Raises:
        PolicyError: A file is damaged, not signed by the key, or made for another codec.
    """

    def __init__(
        self,
        agent: DeviceAgent,
        path: Path,
        candidate: Path | None = None,
        key: str | None = None,
    ) -> None:
        super().__init__(device_codec(agent), path, candidate, key)
        self._agent = agent

    def __call__(self, reading: DeviceReading) -> Setpoint:
        """Decide on what the agent's features show; ``reading`` has filled them already.

        Raises:
            PolicyError: Neither the active policy nor the one before it can decide.
        """
        del reading
        return self._agent.propose(self.act(self._codec.encode(self._agent)))
