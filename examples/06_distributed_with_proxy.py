"""The same day twice: agents reach each other directly, and over a message broker.

In distributed mode a coordinator's action travels to its devices as messages and their states
travel back as reports; a proxy keeps what each may see of the others.

Run: python examples/06_distributed_with_proxy.py
"""

import numpy as np

from heron.messaging import InMemoryBroker, Message
from heron.messaging.base import agent_channel
from heron.powergrid.setups import load_setup
from training.envs import MultiAgentMicrogrids

STEPS = 24


def run(*, distributed: bool) -> tuple[list[float], MultiAgentMicrogrids]:
    config = {**load_setup("ieee34_ieee13"), "max_episode_steps": STEPS}
    env = MultiAgentMicrogrids({**config, "centralized": not distributed})
    if distributed:
        env.use_proxy()
    rng = np.random.default_rng(5)
    env.reset(seed=5, options={"day": 100})
    commands: list[Message] = []
    if env.message_broker is not None:
        env.message_broker.subscribe(agent_channel("ess1"), commands.append)
    rewards = []
    while env.agents:
        actions = {
            a: rng.uniform(-1, 1, env.action_space(a).shape).astype(np.float32) for a in env.agents
        }
        _, reward, *_ = env.step(actions)
        rewards.append(reward["MG1"])
    print(f"{'over a broker' if distributed else 'direct':<13}: {len(commands)} messages to ess1")
    assert len(commands) == (STEPS if distributed else 0)
    return rewards, env


def main() -> None:
    direct, _ = run(distributed=False)
    over_broker, env = run(distributed=True)
    assert isinstance(env.message_broker, InMemoryBroker)
    print(
        f"return of {STEPS} steps: direct {sum(direct):.6f}, over a broker {sum(over_broker):.6f}"
    )
    assert direct == over_broker, "the message path must not change what happens"

    env.share_states()
    proxy = env.proxy
    assert proxy is not None
    own = proxy.get_state("MG1", "ess1")
    foreign = proxy.get_state("MG2", "ess1")
    stranger = proxy.get_state("somebody", "ess1")
    print(f"MG1 sees of its own battery: {', '.join(own)}")
    print(f"MG2 sees of MG1's battery: {', '.join(foreign) or 'nothing'}; a stranger: nothing")
    assert "StorageBlock" in own
    assert "StorageBlock" not in foreign
    assert not stranger


if __name__ == "__main__":
    main()
