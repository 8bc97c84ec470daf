"""What the agents themselves know of a step's cost: for environments that shape rewards."""

from __future__ import annotations

from collections.abc import Mapping

from heron.agents import HierarchicalAgent
from heron.powergrid.accounting import StepAccounts
from heron.powergrid.agents import DeviceAgent, PowerGridAgent


def tell_costs(agents: Mapping[str, PowerGridAgent], accounts: StepAccounts) -> None:
    """Set ``cost`` and ``safety`` of coordinators and devices to those of a step.

    They are those of the accounts, energy and violations included. What a class's own
    `update_cost_safety` finds holds over that: for a device its cost stands in place of the
    accounts' and its safety is added to its coordinator's.

    Args:
        agents: The coordinators.
        accounts: Of the step.
    """
    for name, agent in agents.items():
        account = accounts.agents[name]
        cost, safety = account.cost_usd, account.safety
        for device_id, device in agent.devices.items():
            counted = account.device_cost_usd[device_id]
            if type(device).update_cost_safety is DeviceAgent.update_cost_safety:
                device.cost, device.safety = counted, 0.0
            else:
                device.update_cost_safety()
                cost += device.cost - counted
                safety += device.safety
        agent.cost, agent.safety = cost, safety
        if type(agent).update_cost_safety is not HierarchicalAgent.update_cost_safety:
            agent.update_cost_safety()
