"""A coordinator that holds its connection within the operator's limits, whatever its protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from heron.agents import Agent, CoordinatorAgent
from heron.core.observation import Observation
from heron.messaging import MessageType
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.connection import (
    NO_LIMITS,
    ConnectionLimits,
    Kind,
    Part,
    within_connection,
)
from heron.powergrid.device_configs import InverterSourceConfig
from heron.powergrid.quantities import Setpoint
from heron.protocols import Coordination
from heron.scheduling.dispatch import Dispatch


class ConnectedAgent(CoordinatorAgent):
    """A coordinator of power devices with a connection.

    What its protocol has for a device is a command or a signal that the device answers by
    itself. Where all of it together would carry more through the connection than
    ``connection`` allows, the devices that give way are commanded instead.

    Attributes:
        connection: What the operator allows; no limits until it says so.
    """

    connection: ConnectionLimits
    _kept: dict[str, tuple[MessageType, Any]] | None = None

    def _prepare(self) -> None:
        super()._prepare()
        self.connection = NO_LIMITS

    def other_load_mw(self) -> float:
        """Return what draws power behind the connection beside the devices, positive."""
        return 0.0

    def coordinate_subordinates(
        self,
        observation: Observation | None,
        action: ArrayLike | None,
        scheduler: Dispatch | None = None,
    ) -> Coordination:
        """Run the protocol and tell each device its part, within the connection's limits."""
        if not self.connection.given:
            return super().coordinate_subordinates(observation, action, scheduler)
        self._kept = {}
        try:
            result = super().coordinate_subordinates(observation, action, scheduler)
            kept = self._kept
        finally:
            self._kept = None
        for name, (kind, content) in self._within_limits(kept).items():
            self._deliver(self.subordinates[name], kind, content, scheduler)
        return result

    def _tell(
        self, agent: Agent, kind: MessageType, content: Any, scheduler: Dispatch | None
    ) -> None:
        if self._kept is None:
            self._deliver(agent, kind, content, scheduler)
        else:
            self._kept[agent.agent_id] = (kind, content)

    def _deliver(
        self, agent: Agent, kind: MessageType, content: Any, scheduler: Dispatch | None
    ) -> None:
        """Tell a device what is decided for it."""
        super()._tell(agent, kind, content, scheduler)

    def _within_limits(
        self, messages: Mapping[str, tuple[MessageType, Any]]
    ) -> dict[str, tuple[MessageType, Any]]:
        """Return the messages, with commands to the devices that give way."""
        devices = cast("Mapping[str, DeviceAgent]", self.subordinates)
        wanted = {name: _wanted(device, messages.get(name)) for name, device in devices.items()}
        parts = [_part(device, wanted[name]) for name, device in devices.items()]
        changed = within_connection(parts, self.other_load_mw(), self.connection)
        commands = {
            name: (MessageType.ACTION, devices[name].action_for(p_mw, wanted[name].q_mvar))
            for name, p_mw in changed.items()
        }
        return {**messages, **commands}


def _wanted(device: DeviceAgent, message: tuple[MessageType, Any] | None) -> Setpoint:
    """Return the set-point in which a message would end."""
    if message is None:
        return device.setpoint
    kind, content = message
    action = content if kind is MessageType.ACTION else device.respond_to(content)
    return device.setpoint if action is None else device.propose(action)


def _part(device: DeviceAgent, wanted: Setpoint) -> Part:
    """Return a device as the connection sees it; what it does comes from its envelope."""

    def injects(p_mw: float) -> float:
        applied = device.admit(Setpoint(p_mw, wanted.q_mvar)).applied
        return device.setpoint.p_mw if applied is None else applied.p_mw

    limits, config = device.limits, device.device_config
    expected = injects(wanted.p_mw)
    if isinstance(config, InverterSourceConfig):
        shown = 0.0 if device.reading is None else device.reading.p_mw
        return Part(
            device.agent_id, Kind.SOURCE, wanted.p_mw, min(expected, shown), 0.0, limits.p_max_mw
        )
    if limits.storage is not None:
        kind = Kind.STORE
    else:
        kind = Kind.GENERATOR if limits.p_max_mw > 0.0 else Kind.LOAD
    lowest, highest = injects(limits.p_min_mw), injects(limits.p_max_mw)
    p_mw = wanted.p_mw if np.isfinite(wanted.p_mw) else expected
    return Part(device.agent_id, kind, p_mw, expected, lowest, highest)
