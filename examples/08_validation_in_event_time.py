"""Validate the policies that ship under the timing of SCADA before they meet a wire.

Run: python examples/08_validation_in_event_time.py
"""

from heron.powergrid.setups import read_setup
from training.envs.timing import PRESETS
from training.evaluation.sources import policies_of
from training.gap.runs import gap, run_days_timed


def main() -> None:
    setup = read_setup("ieee34_ieee13")
    policies, name = policies_of(None, setup)
    days = [int(day) for day in setup.profiles.test_days[::40]]
    synchronous = run_days_timed(setup, policies, days, None)
    print(f"{name} on {len(days)} held-out days")
    print(f"synchronous step: {synchronous.mean_return:10.2f} $ a day")
    for preset in ("training", "scada"):
        timed = run_days_timed(setup, policies, days, PRESETS[preset])
        lost = gap(synchronous.mean_return, timed.mean_return)
        print(f"{preset:<16}: {timed.mean_return:10.2f} $ a day, gap {100 * lost:.2f} %")
        if preset == "training":
            assert timed.returns.tolist() == synchronous.returns.tolist()
        else:
            assert lost < 0.05, "a policy that loses 5 % to SCADA should not be deployed"


if __name__ == "__main__":
    main()
