"""One microgrid, one day: a rule against doing nothing.

Run: python examples/01_single_microgrid.py
"""

from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.episodes import baseline, run_day


def main() -> None:
    env = MultiAgentMicrogrids({**load_setup("single_microgrid"), "train": False})
    (agent_id,) = env.possible_agents
    agent = env.agent_dict[agent_id]
    print(f"{agent_id} with {', '.join(agent.devices)} on {len(env.net.grid.buses)} buses")
    print(f"observes {env.codecs[agent_id].obs_dim} numbers, sets {env.codecs[agent_id].act_dim}")

    day = int(env.setup.profiles.test_days[3])
    nothing = run_day(env, baseline("none", env.setup, env.codecs), day)
    rule = run_day(env, baseline("rule", env.setup, env.codecs), day)
    for name, figures in (("doing nothing", nothing), ("rule", rule)):
        print(
            f"{name:<14} {figures.cost_usd:8.2f} $  {figures.safety:.4f} pu node h out of band  "
            f"voltages {figures.v_min_pu:.4f} to {figures.v_max_pu:.4f} pu"
        )
    assert not nothing.diverged and not rule.diverged
    assert rule.objective_usd < nothing.objective_usd, "the rule should pay"


if __name__ == "__main__":
    main()
