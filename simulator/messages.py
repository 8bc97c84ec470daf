"""What the simulator says over MQTT, made from what the plant measured."""

from __future__ import annotations

import time

from heron.messaging.wire import AgentAccount, Alarm, StepAccount
from heron.powergrid.accounting import StepAccounts
from heron.powergrid.quantities import Measurements


def step_account(step: int, accounts: StepAccounts, after: Measurements) -> StepAccount:
    """Return the message about one step.

    Args:
        step: The step that everyone acted on; it ended at ``after``.
        accounts: Reward, cost and safety of the step.
        after: What the plant measured.
    """
    areas = after.areas.values()
    return StepAccount(
        step=step,
        time_s=after.time_s,
        agents={
            name: AgentAccount(
                reward=part.reward,
                cost_usd=part.cost_usd,
                safety=part.safety,
                v_min_pu=part.v_min_pu,
                v_max_pu=part.v_max_pu,
            )
            for name, part in accounts.agents.items()
        },
        reward=accounts.reward,
        cost_usd=accounts.cost_usd,
        violation_pu=accounts.violation_pu,
        v_min_pu=min(area.v_min_pu for area in areas),
        v_max_pu=max(area.v_max_pu for area in areas),
        losses_mw=after.losses_mw,
        price_usd_per_mwh=after.price_usd_per_mwh,
        tap_moves=after.tap_moves,
        clipped=tuple(
            f"{clip.device_id}: {reason}" for clip in after.clipped for reason in clip.reasons
        ),
    )


def plant_alarm(agent: str, text: str, active: bool) -> Alarm:
    """Return an alarm about the plant itself, or that it is over."""
    return Alarm(
        agent=agent,
        severity="critical" if active else "info",
        text=text,
        active=active,
        sent_s=time.time(),
    )
