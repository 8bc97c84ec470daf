"""The tree of agents that a setup describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from heron.core import Policy
from heron.errors import ConfigError, ConfigProblem
from heron.messaging import Broker
from heron.powergrid.agents.dso_agent import DSOAgent
from heron.powergrid.agents.power_grid_agent import PowerGridAgent
from heron.powergrid.setups.loader import Setup
from heron.powergrid.setups.models import MicrogridConfig, SetupConfig
from heron.protocols import Protocol, SetpointProtocol
from heron.scheduling import TickConfig


def build_agents(
    setup: Setup | SetupConfig,
    policies: Mapping[str, Policy] | None = None,
    *,
    protocol: Callable[[], Protocol | None] = SetpointProtocol,
    coordinator: Callable[..., PowerGridAgent] = PowerGridAgent,
    system_protocol: Protocol | None = None,
    env_id: str | None = None,
    tick_configs: Mapping[str, TickConfig] | None = None,
    message_broker: Broker | None = None,
) -> DSOAgent:
    """Build DSO, coordinators and devices; the environment and the runtimes use the same tree.

    Args:
        setup: What to build.
        policies: Policy per microgrid; those not named have none.
        protocol: Makes each coordinator's protocol; may return None for the coordinator's own.
        coordinator: Makes the microgrids' coordinators, e.g. their class.
        system_protocol: The DSO's protocol.
        env_id: Environment that the agents belong to.
        tick_configs: Timing in event-driven mode per agent (any level); defaults for others.
        message_broker: Carries messages in distributed mode.

    Raises:
        ConfigError: A policy or timing names an agent that the setup does not have.
    """
    config = setup.config if isinstance(setup, Setup) else setup
    policies, timing = policies or {}, tick_configs or {}
    known = (config.dso_config.name, *config.microgrid_ids, *config.device_ids)
    _require_known("policies", policies, config.microgrid_ids)
    _require_known("tick_configs", timing, known)

    build = _Builder(coordinator, protocol, policies, timing, config, message_broker)
    dso = DSOAgent(
        agent_id=config.dso_config.name,
        microgrids=config.microgrid_configs,
        build=build,
        protocol=system_protocol,
        forecast=bool(config.forecast),
        dt_s=config.step_s,
        env_id=env_id,
        tick_config=timing.get(config.dso_config.name),
        message_broker=message_broker,
    )
    for microgrid in dso.microgrids.values():
        for name, device in microgrid.devices.items():
            if name in timing:
                device.tick_config = timing[name].for_agent(name)
    return dso


@dataclass(frozen=True, slots=True)
class _Builder:
    """Builds coordinators as `build_agents` was told; no closure, so that a tree can be copied."""

    coordinator: Callable[..., PowerGridAgent]
    protocol: Callable[[], Protocol | None]
    policies: Mapping[str, Policy]
    timing: Mapping[str, TickConfig]
    config: SetupConfig
    message_broker: Broker | None

    def __call__(
        self, microgrid: MicrogridConfig, env_id: str | None, upstream_id: str
    ) -> PowerGridAgent:
        return self.coordinator(
            grid_config=microgrid,
            protocol=self.protocol(),
            policy=self.policies.get(microgrid.name),
            tick_config=self.timing.get(microgrid.name),
            forecast=bool(self.config.forecast),
            observe_timing=self.config.observe_timing,
            dt_s=self.config.step_s,
            env_id=env_id,
            upstream_id=upstream_id,
            message_broker=self.message_broker,
        )


def _require_known(what: str, given: Mapping[str, object], known: tuple[str, ...]) -> None:
    problems = [
        ConfigProblem(f"{what}.{name}", given[name], f"one of {', '.join(known)}")
        for name in given
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
