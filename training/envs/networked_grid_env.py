"""The environment over a plant: microgrid agents act, the power flow answers.

The agents, their codec, their envelope and their order are those of the deployed loop, so that
the same policy, setup, day and seed give the same trajectory in both.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import ArrayLike

from heron.agents import ProxyAgent
from heron.envs import PettingZooParallelEnv
from heron.envs.core import unique_env_id
from heron.errors import ConfigError, PowerFlowDiverged
from heron.policy import PolicyCodec, codec_of
from heron.policy.codec import FloatArray, View
from heron.policy.encoder import JointEncoder
from heron.powergrid.accounting import Accountant, StepAccounts
from heron.powergrid.agents import PowerGridAgent, scheme_of
from heron.powergrid.quantities import Measurements, Setpoint
from heron.powergrid.registers import RegisterResolution, site_plan
from heron.powergrid.setups import Setup, as_setup
from simulator import Plant
from training.envs.action_check import action_problems, plain_numbers
from training.envs.action_gate import ActionGate
from training.envs.days import chosen_start, first_days
from training.envs.env_options import (
    broker_of,
    refuse_hidden,
    refuse_unseen,
    split_options,
)
from training.envs.event_mode import EventMode
from training.envs.step_costs import tell_costs
from training.envs.step_return import StepReturn, diverged_return
from training.envs.timing import timing_of


class NetworkedGridEnv(PettingZooParallelEnv):
    """A PettingZoo parallel environment of microgrids on one network.

    An episode starts at midnight of a day that the seed chooses among the setup's training or
    test days, and is truncated after ``max_episode_steps``. It is terminated only when the
    power flow finds no solution. Actions are normalised to [-1, 1]; observations are scaled by
    the agent's codec.

    ``reset(options={"day": d})`` starts on day ``d`` of the data year instead.

    With ``through_registers`` in its configuration the agents see, and the devices are told,
    what passes through the registers of the deployed loop: rounded as there, so that the two
    give the same trajectory step for step.

    With ``event_driven`` a step runs its control interval in event-driven time, with the delays
    and the jitter of ``timing`` (a preset's name or the attributes of `Timing`) and
    ``timing_jitter``. Where nothing is late, that is the synchronous step exactly.

    A subclass builds network and agents and may change the reward, with the three hooks
    `_build_net`, `_build_agents` and `_reward_and_safety`.

    With ``centralized`` false the agents reach each other over ``message_broker`` only:
    ``in_memory``, the address of an MQTT broker or a `heron.messaging.Broker`; one in memory if
    it is not given. The environment closes what it opened.

    With ``shield`` the network's shield stands between the actions and the devices, as
    ``shield-network:`` puts it before a policy.

    ``protocol`` chooses how the agents coordinate, as `heron.powergrid.agents.scheme_of` takes
    it, in place of what the setup says.

    Attributes:
        setup: What it was built from.
        scheme: How its agents coordinate.
        net: The plant.
        agent_dict: Coordinator per agent id, in order.
        codecs: Codec per agent id.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 - as PettingZoo declares it
        "render_modes": ["human"],
        "name": "networked_grid_v0",
        "is_parallelizable": True,
    }

    def __init__(
        self,
        env_config: Mapping[str, Any] | Setup | str | Path,
        *,
        protocol: str | None = None,
        **options: Any,
    ) -> None:
        env_config, own = split_options(env_config, options)
        broker, self._opened = broker_of(own)
        env_id = own.get("env_id")
        name = unique_env_id("networked_grid") if env_id is None else str(env_id)
        super().__init__(name, broker)
        with ExitStack() as unfinished:
            unfinished.callback(self.close)
            self._assemble(as_setup(self._completed(env_config)).under(protocol), own)
            unfinished.pop_all()

    def _completed(self, env_config: Any) -> Any:
        """Return what describes the setup, with what a subclass adds to it."""
        return env_config

    def _assemble(self, setup: Setup, own: Mapping[str, Any]) -> None:
        """Build plant, agents, codecs and clock, with what was said beside the setup."""
        self.setup = setup
        config = self.setup.config
        self.max_episode_steps = config.max_episode_steps
        self.centralized = bool(own.get("centralized", True))
        self.train = config.train
        self.penalty = config.penalty
        self.share_reward = config.share_reward
        self._dso_name = config.dso_config.name
        self._step_s = config.step_s

        self._registers = (
            RegisterResolution(site_plan(config)) if own.get("through_registers") else None
        )
        self.scheme = scheme_of(self.setup.config.protocol)
        self._commands_devices = self.scheme.commands_devices
        self.net: Plant = self._build_net()
        self.agent_dict: dict[str, PowerGridAgent] = self._build_agents()
        for agent in self.agent_dict.values():
            self.register_agent(agent)
        self._view: View = own.get("visibility_level", "upper_level")
        self._is_late = bool(own.get("event_driven"))
        self.codecs: dict[str, PolicyCodec] = {
            a: codec_of(g, self._view) for a, g in self.agent_dict.items()
        }
        self._setup_spaces()
        self._unseen: Measurements | None = None
        self._uninformed: set[str] = set()
        self._take_inventory()
        if not self.centralized:
            self.configure_agents_for_distributed()

        self._accountant = Accountant(self.setup)
        timing = timing_of(own.get("timing"), own.get("timing_jitter"))
        self.event_mode = EventMode(self, timing) if own.get("event_driven") else None
        self._gate = ActionGate(self.setup, self.codecs) if own.get("shield") else None
        self._rng = np.random.default_rng(config.seed)
        profiles = self.setup.profiles
        self._days = first_days(profiles.train_days if self.train else profiles.test_days, config)
        self._t = 0
        self.accounts: StepAccounts | None = None

    @abstractmethod
    def _build_net(self) -> Plant:
        """Build the plant."""

    @abstractmethod
    def _build_agents(self) -> dict[str, PowerGridAgent]:
        """Build the coordinators, by agent id."""

    @abstractmethod
    def _update_agents(self, measurements: Measurements) -> None:
        """Let each coordinator know what it may know of the plant."""

    def _update_agent(
        self, name: str, measurements: Measurements, reported: Measurements | None = None
    ) -> None:
        """Let one coordinator, or the feeder's operator, know what it may know.

        A subclass that can tells it alone; otherwise all are told.

        Args:
            name: The coordinator, or the operator.
            measurements: The plant as it is, which its devices read at their terminals.
            reported: What of it has been reported to the coordinator by now; None: all.
        """
        self._update_agents(measurements)

    def _reward_and_safety(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return each agent's reward before the penalty, and its safety violation.

        `step` subtracts ``penalty * safety`` from the reward and, if rewards are shared, gives
        every agent the mean. An agent answers for the feeder's violations as well as for its
        own; with shared rewards it bears its share of the feeder's cost, too. Where a subclass
        overrides this, each agent's ``cost`` and ``safety`` are those of the step; see
        `training.envs.step_costs.tell_costs`.
        """
        accounts = self.accounts
        if accounts is None:
            raise ConfigError("no step was taken since the reset")
        of_agent = accounts.agents
        feeder, n = of_agent[self._dso_name], len(self.agent_dict)
        cost, unsafe = feeder.cost_usd / n, feeder.safety / n
        rewards, safety = {}, {}
        for agent in self.agent_dict:
            own = of_agent[agent]
            if self.share_reward:
                rewards[agent] = -own.cost_usd - cost
                safety[agent] = own.safety + unsafe
            else:
                rewards[agent] = -own.cost_usd
                safety[agent] = own.safety + feeder.safety
        return rewards, safety

    def _setup_spaces(self) -> None:
        self.possible_agents = list(self.agent_dict)
        self.agents = list(self.possible_agents)
        self.observation_spaces = {
            a: Box(-np.inf, np.inf, (c.obs_dim,), np.float32) for a, c in self.codecs.items()
        }
        self._act_shapes = {a: (c.act_dim,) for a, c in self.codecs.items()}
        self.action_spaces = {
            a: Box(-1.0, 1.0, (c.act_dim,), np.float32) for a, c in self.codecs.items()
        }

    def observation_space(self, agent: str) -> Box:
        """Return an agent's observation space."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Box:
        """Return an agent's action space, always within [-1, 1]."""
        return self.action_spaces[agent]

    @property
    def measurements(self) -> Measurements:
        """The plant as it is now."""
        return self.net.measurements

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, FloatArray], dict[str, dict[str, Any]]]:
        """Start an episode.

        Args:
            seed: Seed of this and all following episodes; None goes on with the present one.
            options: ``day``: day of the data year to start on, or ``start_s``: the plant time;
                anything else is left alone, as PettingZoo's conformance test wants.

        Returns:
            Observations, and infos with the ``day`` of the data year, by agent.

        Raises:
            ConfigError: The day is not in the data, or the time is none.
            PowerFlowDiverged: The network cannot be solved even at rest.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        drawn = int(self._rng.choice(self._days))
        day, start_s = chosen_start(options or {}, drawn, self.setup.profiles.n_days)
        self._t = 0
        self.accounts = None
        self.agents = list(self.possible_agents)
        self.reset_agents(seed=seed)
        self._take_inventory()
        plant_seed = int(self._rng.integers(2**31))
        measurements = self.net.reset(seed=plant_seed, start_s=start_s)
        self.time_s = measurements.time_s
        self._update_agents(self._seen(measurements))
        if self.event_mode is not None:
            self.event_mode.start(measurements.time_s, plant_seed)
        observations = self.observations()
        if self._gate is not None:
            self._gate.begin(observations)
        return observations, {agent: {"day": day} for agent in self.agents}

    def step(self, actions: Mapping[str, FloatArray]) -> StepReturn:
        """Let all agents act, and the plant advance by one control step.

        Args:
            actions: One normalised action an agent, (act_dim,). In event-driven time there
                may be none: the agents then decide with policies of their own.

        Raises:
            ConfigError: The episode is over, an agent is missing or unknown, or an action has
                the wrong length or is not finite; nobody is told anything then.
        """
        if not self.agents:
            raise ConfigError(f"{self.env_id}: the episode is over; reset() starts another")
        plain = plain_numbers(actions, self._act_shapes)
        if plain is None:
            actions = self._made_to_fit(actions)
        if self._gate is not None:
            actions, plain = self._gate.let_through(actions), None
        told: Mapping[str, ArrayLike] = actions
        if not self._commands_devices:
            told, plain = self._of_agents(actions), None
        try:
            if self.event_mode is None:
                self.accounts = self.advance(self._apply(told, plain), self._step_s)
            else:
                self.accounts = self.event_mode.step(told)
        except PowerFlowDiverged as error:
            return self._end_diverged(error)
        self._t += 1
        rewards = self._rewards()
        observations = self.observations()
        if self._gate is not None:
            self._gate.see(observations)
        over = self._t >= self.max_episode_steps
        infos = self._infos(self.accounts)
        ended = dict.fromkeys(rewards, False), dict.fromkeys(rewards, over)
        if over:
            self.agents = []
        return observations, rewards, *ended, infos

    def _rewards(self) -> dict[str, float]:
        """Return what the agents earn, the penalty taken off, shared if the setup says so."""
        if self._shapes_rewards and self.accounts is not None:
            tell_costs(self.agent_dict, self.accounts)
        earned, safety = self._reward_and_safety()
        penalty = self.penalty
        rewards: dict[str, float] = {}
        total = 0.0
        for name, reward in earned.items():
            rewards[name] = net = reward - penalty * safety[name]
            total += net
        if self.share_reward:
            rewards = dict.fromkeys(rewards, total / len(rewards))
        return rewards

    def advance(self, setpoints: Mapping[str, Setpoint], dt_s: float) -> StepAccounts:
        """Let the plant run with set-points, and the agents know what they can read of it.

        Raises:
            PowerFlowDiverged: No solution; the plant and the agents are as before.
        """
        before = self.net.measurements
        if self._registers is not None:
            setpoints = self._registers.setpoints(setpoints)
        after = self.net.step(setpoints, dt_s)
        self.time_s = after.time_s
        accounts = self._accountant.account(before, after)
        if self.event_mode is None:
            self._update_agents(after if self._registers is None else self._seen(after))
        else:
            self._unseen = after
            self.event_mode.remember(after)
            self._uninformed.update(self._part_of.values())
        return accounts

    def refresh(self, agent_id: str | None = None) -> None:
        """Let the agents know of the plant what they do not know yet: in event-driven time.

        Between two events one or two agents look, and the others need not be told.

        Args:
            agent_id: Whose part of the site is told; None: all.
        """
        if not self._uninformed or self._unseen is None or self.event_mode is None:
            return
        part = self._part_of.get(agent_id or "")
        told = set(self._uninformed) if part is None else self._uninformed & {part}
        if told:
            seen, reported = self._unseen, self.event_mode.reported()
            now = self._seen(seen)
            late = now if reported is seen else self._seen(reported)
            for name in told:
                self._update_agent(name, now, late)
            self._uninformed -= told

    def use_proxy(
        self, visibility_rules: Mapping[str, list[str]] | None = None, history_length: int = 100
    ) -> ProxyAgent:
        """Let coordinators see their devices through a proxy, and return it.

        Raises:
            ConfigError: The rules hide what the coordinators' observations are made of.
        """
        refuse_hidden(visibility_rules, self.codecs)
        refuse_unseen(self.agent_dict, self.codecs, self._view, delivered=True)
        return super().use_proxy(visibility_rules, history_length)

    def render(self) -> None:
        """Print one line on the state of the plant."""
        m = self.net.measurements
        v_min = min(a.v_min_pu for a in m.areas.values())
        v_max = max(a.v_max_pu for a in m.areas.values())
        print(  # noqa: T201 - the render mode "human" is this line
            f"t={m.time_s / 3600:.2f} h head={m.meters['head'].p_mw:+.3f} MW "
            f"v={v_min:.4f}..{v_max:.4f} pu price={m.price_usd_per_mwh:.1f} $/MWh"
        )

    def close(self) -> None:
        """Leave the broker that was opened by its address; nothing else is held."""
        if self._opened is not None:
            self._opened.close()

    def _take_inventory(self) -> None:
        """Find what every step of an episode needs: devices, features to encode, who is whose."""
        agents = self.agent_dict
        delivered = self._is_late or not self.centralized or self.proxy is not None
        refuse_unseen(agents, self.codecs, self._view, delivered=delivered)
        self._sees_directly = all(
            type(agent).observe is PowerGridAgent.observe for agent in agents.values()
        )
        devices = [device for agent in agents.values() for device in agent.devices.values()]
        self._terminals = [(device.agent_id, device.terminals) for device in devices]
        self._encoder = JointEncoder([(c, agents[a]) for a, c in self.codecs.items()])
        self._shapes_rewards = (
            type(self)._reward_and_safety is not NetworkedGridEnv._reward_and_safety
        )
        self._part_of = {m.agent_id: a for a, agent in agents.items() for m in agent.family()}
        self._part_of[self.setup.config.dso_config.name] = self.setup.config.dso_config.name
        self._uninformed.clear()

    def _made_to_fit(self, actions: Mapping[str, FloatArray]) -> Mapping[str, FloatArray]:
        """Return actions that are lists or whole numbers as arrays; refuse what is no action."""
        if self.event_mode is not None and not actions:
            return actions
        problems = action_problems(actions, self._act_shapes)
        if problems:
            raise ConfigError(problems)
        return {agent: np.asarray(actions[agent], dtype=np.float64) for agent in self._act_shapes}

    def _of_agents(self, actions: Mapping[str, FloatArray]) -> Mapping[str, ArrayLike]:
        """Return the agents' own actions for the normalised ones."""
        return {a: self.agent_dict[a].from_normalised(x) for a, x in actions.items()}

    def _apply(
        self,
        actions: Mapping[str, ArrayLike],
        plain: Mapping[str, Sequence[float]] | None = None,
    ) -> dict[str, Setpoint]:
        """Hand each coordinator its action; return what its devices may be told.

        Args:
            actions: By agent, each in its own units.
            plain: The same as plain numbers, where they are there already.

        Raises:
            ValueError: A protocol made an action that a device cannot take; none is told anything.
        """
        if not (self.centralized and self._tells_at_once(actions, plain)):
            self.apply_actions({a: actions[a] for a in self.agent_dict})
        return {device_id: terminals.setpoint for device_id, terminals in self._terminals}

    def _tells_at_once(
        self, actions: Mapping[str, ArrayLike], plain: Mapping[str, Sequence[float]] | None
    ) -> bool:
        """Tell all devices without messages, if nothing can fail on any agent's way to them."""
        agents = self.agent_dict
        for agent in agents.values():
            if agent.tell is None:
                return False
        for agent_id, agent in agents.items():
            tell = agent.tell
            values = np.asarray(actions[agent_id]).tolist() if plain is None else plain[agent_id]
            tell(values)  # type: ignore[misc]
        return True

    def _seen(self, measurements: Measurements) -> Measurements:
        """Return what the agents can read of the plant."""
        if self._registers is None:
            return measurements
        return self._registers.measurements(measurements)

    def observations(self) -> dict[str, FloatArray]:
        """Return what the agents see now, by id, as `reset` and `step` return it."""
        agents = self.agent_dict
        if self.event_mode is not None:
            self.event_mode.deliver_what_is_not_late()
            return {a: c.encode_observation(agents[a].observe()) for a, c in self.codecs.items()}
        if not self.centralized or self.proxy is not None or not self._sees_directly:
            seen = self.get_observations()
            return {a: c.encode_observation(seen[a]) for a, c in self.codecs.items()}
        return self._encoder.encode()

    def _infos(self, accounts: StepAccounts) -> dict[str, dict[str, Any]]:
        """Return what the last step meant for each agent and for the whole."""
        of_agent, total_reward, total_cost, total_safety, _ = accounts
        time_s = self.time_s
        infos: dict[str, dict[str, Any]] = {}
        for agent in self.agents:
            _, cost, safety, v_min, v_max, _ = of_agent[agent]
            infos[agent] = {
                "cost": cost,
                "safety": safety,
                "v_min_pu": v_min,
                "v_max_pu": v_max,
                "time_s": time_s,
                "total_cost_usd": total_cost,
                "total_safety": total_safety,
                "total_reward": total_reward,
            }
        return infos

    def _end_diverged(self, error: PowerFlowDiverged) -> StepReturn:
        """End the episode: the plant is as before the step, and so are the observations."""
        ended, self.agents = self.agents, []
        return diverged_return(ended, self.observations(), str(error), self._t)
