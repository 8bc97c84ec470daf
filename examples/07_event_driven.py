"""Event-driven time: own tick rates, delays, jitter. Where nothing is late it is the sync step.

Run: python examples/07_event_driven.py
"""

import numpy as np

from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

STEPS = 24


def run(**options: object) -> tuple[float, float, int]:
    """Charge for half the time, then discharge; return reward, final charge and events."""
    config = {**load_setup("ieee34_ieee13"), "max_episode_steps": STEPS}
    env = MultiAgentMicrogrids(config, **options)
    env.reset(seed=1, options={"day": 100})
    total = 0.0
    for step in range(STEPS):
        wanted = {a: np.zeros(env.action_space(a).shape, np.float32) for a in env.agents}
        wanted["MG1"][2] = -1.0 if step < STEPS // 2 else 1.0
        _, reward, *_ = env.step(wanted)
        total += sum(reward.values())
    events = 0 if env.event_mode is None else env.event_mode.events
    return total, env.measurements.devices["ess1"].soc or 0.0, events


def main() -> None:
    synchronous = run()
    ideal = run(event_driven=True, timing="training")
    scada = run(event_driven=True, timing="scada")
    late = run(event_driven=True, timing={"act_delay_s": 600.0, "device_tick_s": 300.0})
    for name, (reward, soc, events) in {
        "synchronous": synchronous,
        "event-driven, nothing late": ideal,
        "event-driven, SCADA": scada,
        "event-driven, 10 min late": late,
    }.items():
        print(f"{name:<28} reward {reward:9.3f}  charge {soc:.4f}  events {events}")
    assert ideal[:2] == synchronous[:2], "without delays the clocks agree exactly"
    assert abs(scada[1] - synchronous[1]) < 0.02, "seconds do not matter to a battery"
    assert abs(late[1] - synchronous[1]) > 0.02, "ten minutes do"


if __name__ == "__main__":
    main()
