"""A coordinator that knows its own timing: how old its readings are, what it said last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from heron.agents import Agent
from heron.core import Observation
from heron.messaging import MessageType
from heron.powergrid.agents.connected import ConnectedAgent
from heron.powergrid.agents.device import DEFAULT_DT_S, DeviceAgent
from heron.powergrid.features import LastAction, Timeliness
from heron.scheduling.dispatch import Dispatch

if TYPE_CHECKING:
    from heron.agents import ProxyAgent


class TimedAgent(ConnectedAgent):
    """A coordinator that may observe `Timeliness` and, of each device, `LastAction`.

    Both are the same in every clock. The age is that of the oldest reading at the moment of the
    decision: 0 in the synchronous step, unless something there makes readings late. The last
    command is the coordinator's own memory, so no report of a device can be late with it.

    Attributes:
        timeliness: The feature, where it observes its timing; else None.
        dt_s: Plant seconds of a control step.
    """

    timeliness: Timeliness | None
    dt_s: float = DEFAULT_DT_S

    def _prepare(self) -> None:
        super()._prepare()
        self.timeliness = None
        self._told: dict[str, LastAction] = {}

    def _remember_commands_to(self, devices: Mapping[str, DeviceAgent]) -> None:
        """Append a `LastAction` to what is seen of each device."""
        for name, device in devices.items():
            told = LastAction.of(spec.quantity for spec in device.setpoint_specs())
            self._told[name] = told
            device.state.features.append(told)

    def _deliver(
        self, agent: Agent, kind: MessageType, content: Any, scheduler: Dispatch | None
    ) -> None:
        """Tell a device what is decided for it, and remember a command."""
        told = self._told.get(agent.agent_id)
        if told is not None and kind is MessageType.ACTION:
            told.take(np.asarray(content, dtype=np.float64).tolist())
        super()._deliver(agent, kind, content, scheduler)

    def observe(
        self, global_state: Mapping[str, Any] | None = None, proxy: ProxyAgent | None = None
    ) -> Observation:
        """Return what it sees; what it told its devices it knows without their reports."""
        seen = super().observe(global_state, proxy)
        if self._told:
            below = dict(seen.local["subordinates"])
            for name, told in self._told.items():
                below[name] = {**below[name], told.feature_name: told.vector()}
            seen.local = {**seen.local, "subordinates": below}
        return seen

    def decide(self, scheduler: Dispatch, observation: Observation) -> None:
        """Decide on an observation, which may have grown older since it was taken."""
        waited_s = scheduler.current_time - observation.timestamp
        if self.timeliness is not None and waited_s > 0.0:
            name = self.timeliness.feature_name
            aged = observation.local[name] + np.float32(waited_s / self.dt_s)
            observation.local = {**observation.local, name: aged}
        super().decide(scheduler, observation)
