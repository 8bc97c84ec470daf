"""How an agent comes into being.

Construction has two phases, so that a subclass may set its attributes before or after
``super().__init__()``. The constructors only store what they are given. State and action (and a
coordinator's subordinates) are built by ``set_state``, ``set_action`` (and
``_build_subordinates``) when they are first used, and at the latest when the constructor has
returned. Whoever holds an agent therefore holds a complete and checked one.
"""

from __future__ import annotations

import inspect
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from heron.core.action import Action
from heron.core.features import check_visibility
from heron.core.state import State
from heron.errors import ConfigError


class Registrar(Protocol):
    """An environment, as those see it that it holds."""

    @property
    def time_s(self) -> float:
        """Plant seconds now."""

    @property
    def proxy(self) -> Any:
        """The proxy by which agents see each other; None where they do so directly."""

    def refuse_unfit(self, agent: Any) -> None:
        """Raise ConfigError if an agent, or one below it, cannot be taken in."""

    def take_in(self, agent: Any) -> None:
        """Take in an agent and all below it."""


class _TwoPhase(ABCMeta):
    """Completes an agent when its whole constructor has run."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        agent = super().__call__(*args, **kwargs)
        agent.complete()
        return agent

    @property
    def __signature__(cls) -> inspect.Signature:
        # __call__ above would hide the constructor's parameters from help() and inspect
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]
        return inspect.Signature(parameters)


class Built(metaclass=_TwoPhase):
    """The part of an agent that is built in the second phase: its state and its action."""

    agent_id: str
    upstream_id: str | None
    registrar: Registrar | None = None
    """The environment that holds it; set when it is registered."""

    def __init__(self) -> None:
        self._state: State | None = None
        self._action: Action | None = None

    @abstractmethod
    def set_state(self) -> None:
        """Set ``self.state`` and append its features."""

    def set_action(self) -> None:
        """Declare the action with ``self.action.set_specs(...)``; none if not overridden."""

    def complete(self) -> None:
        """Build and check what has not been built yet; called after the constructor."""
        self.state.check()
        for name, feature in self.state.items():
            check_visibility(feature.visibility, f"{self.agent_id}: {name}")
        self.action  # noqa: B018 - builds it

    @property
    def state(self) -> State:
        """The agent's state; built by `set_state` when first used."""
        if self._state is None:
            self._build("set_state", self.set_state)
            if self._state is None:
                raise ConfigError(f"{self._name()}: set_state() did not set self.state")
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        if state.upstream_id is None:
            state.upstream_id = self.upstream_id
        self._state = state

    @property
    def action(self) -> Action:
        """The agent's action; `set_action` gives it its specs when first used."""
        if self._action is None:
            action = self._action = Action()
            built = False
            try:
                self._build("set_action", self.set_action)
                built = True
            finally:
                if not built:
                    self._action = None
            return self._action or action
        return self._action

    @action.setter
    def action(self, action: Action) -> None:
        self._action = action

    def _build(self, hook: str, build: Callable[[], None]) -> None:
        try:
            build()
        except AttributeError as error:
            if error.obj is not self:
                raise
            raise ConfigError(
                f"{self._name()}: {hook}() needs self.{error.name}, which is not set yet; set it "
                "in __init__ before anything uses the agent's state, action or subordinates"
            ) from error

    def _name(self) -> str:
        return f"{type(self).__name__} {self.agent_id!r}"
