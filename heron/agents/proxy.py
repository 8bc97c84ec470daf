"""L0: keeps everybody's states and gives out what the asker may see."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from heron.agents.base import DEFAULT_ENV_ID, Agent
from heron.core.features import Vector
from heron.core.state import State, StateSnapshot
from heron.errors import ConfigError, ConfigProblem

_NOTHING: Mapping[str, Vector] = MappingProxyType({})


class ProxyAgent:
    """Distributes states with their visibility and a history that nobody can change.

    It neither observes nor acts, so it is no `Agent`. An id that is not registered, in any
    spelling, gets nothing and is stored nothing for.

    Args:
        agent_id: Its own id.
        env_id: Environment that it serves.
        registered_agents: Agents, or ids whose agents are registered later with `register`.
            An id alone has no level yet and so sees nothing.
        visibility_rules: Per requester id the owners that it may ask for at all. They narrow
            what features declare and never widen it; who is not named is not narrowed.
        history_length: Snapshots kept per agent.
    """

    level = 0

    def __init__(
        self,
        agent_id: str = "proxy",
        env_id: str | None = None,
        registered_agents: Iterable[Agent | str] = (),
        visibility_rules: Mapping[str, Sequence[str]] | None = None,
        history_length: int = 100,
    ) -> None:
        if history_length < 1:
            raise ConfigError([ConfigProblem("history_length", history_length, "at least 1")])
        self.agent_id = agent_id
        self.env_id = env_id or DEFAULT_ENV_ID
        self.history_length = history_length
        self._levels: dict[str, int | None] = {}
        self._history: dict[str, deque[StateSnapshot]] = {}
        self._rules = {k: frozenset(v) for k, v in (visibility_rules or {}).items()}
        for agent in registered_agents:
            self.register(agent)

    @property
    def registered_agents(self) -> tuple[str, ...]:
        """Ids that may ask and be asked for."""
        return tuple(self._levels)

    def register(self, agent: Agent | str) -> None:
        """Let an agent ask and be asked for; its level is taken from itself, never from a request.

        Raises:
            ConfigError: An agent of another level has this id.
        """
        name, level = (agent, None) if isinstance(agent, str) else (agent.agent_id, agent.level)
        known = self._levels.get(name)
        if known is not None and level not in (None, known):
            raise ConfigError([ConfigProblem("agent_id", name, "an id that no other agent has")])
        self._levels[name] = known if level is None else level
        self._history.setdefault(name, deque(maxlen=self.history_length))

    def store(self, state: State | StateSnapshot, time_s: float = 0.0) -> None:
        """Keep what a state is now.

        Args:
            state: A live state, of which a picture is taken, or a picture.
            time_s: Plant time of a live state.

        Raises:
            ConfigError: Its owner is not registered.
            ValueError: It is older than what is kept.
        """
        snapshot = state if isinstance(state, StateSnapshot) else state.snapshot(time_s)
        history = self._history.get(snapshot.owner_id)
        if history is None:
            raise ConfigError([ConfigProblem("owner_id", snapshot.owner_id, "a registered agent")])
        if history and snapshot.time_s < history[-1].time_s:
            raise ValueError(
                f"state of {snapshot.owner_id!r} at {snapshot.time_s} s is older than the last, "
                f"{history[-1].time_s} s"
            )
        if history and snapshot.time_s == history[-1].time_s:
            history.pop()
        history.append(snapshot)

    def receive(self, snapshot: StateSnapshot) -> None:
        """Keep a picture that has arrived; one that a newer has overtaken is dropped."""
        history = self._history.get(snapshot.owner_id)
        if history is not None and (not history or snapshot.time_s >= history[-1].time_s):
            self.store(snapshot)

    def get_state(
        self, requestor_id: str, owner_id: str, at_time: float | None = None
    ) -> Mapping[str, Vector]:
        """Return what a requester may see of a state, by feature name; read-only.

        Args:
            requestor_id: Who asks.
            owner_id: Whose state.
            at_time: The last state known at this plant time; None: the latest.

        Returns:
            Nothing if the requester is unknown, may not see it, or nothing was known then.
        """
        level = self._levels.get(requestor_id)
        history = self._history.get(owner_id)
        allowed = self._rules.get(requestor_id)
        if level is None or not history or (allowed is not None and owner_id not in allowed):
            return _NOTHING
        if at_time is None:
            return history[-1].observed_by(requestor_id, level)
        index = bisect_right(history, at_time, key=lambda snapshot: snapshot.time_s)
        return history[index - 1].observed_by(requestor_id, level) if index else _NOTHING

    def history(
        self, requestor_id: str, owner_id: str
    ) -> tuple[tuple[float, Mapping[str, Vector]], ...]:
        """Return (plant time, visible features) of every state kept, oldest first."""
        return tuple(
            (snapshot.time_s, self.get_state(requestor_id, owner_id, snapshot.time_s))
            for snapshot in self._history.get(owner_id, ())
        )

    def clear(self) -> None:
        """Forget all states; who is registered stays."""
        for history in self._history.values():
            history.clear()
