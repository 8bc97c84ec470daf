"""What is called a test in event-driven time runs events, not the synchronous step."""

from __future__ import annotations

import pytest

from heron.powergrid.setups import as_setup, load_setup
from training.envs import MultiAgentMicrogrids
from training.envs.timing import Timing
from training.evaluation.sources import policies_named
from training.gap.runs import run_days_timed

DAY = 17


@pytest.mark.parametrize(
    "late", [{"act_delay_s": 450.0}, {"msg_delay_s": 450.0}, {"device_tick_s": 60.0}]
)
def test_a_delay_or_faster_reports_show_in_what_a_test_in_event_time_counts(
    late: dict[str, float],
) -> None:
    setup = as_setup(load_setup("ieee34_ieee13") | {"max_episode_steps": 8})
    policies = policies_named("rule", MultiAgentMicrogrids(setup))
    synchronous = run_days_timed(setup, policies, [DAY], None)
    policies = policies_named("rule", MultiAgentMicrogrids(setup))
    exact = run_days_timed(setup, policies, [DAY], Timing())
    policies = policies_named("rule", MultiAgentMicrogrids(setup))
    timed = run_days_timed(setup, policies, [DAY], Timing(**late))  # type: ignore[arg-type]
    assert exact.mean_return == synchronous.mean_return
    assert (timed.events, timed.mean_return) != (exact.events, exact.mean_return)
    assert synchronous.events == 0 < exact.events
