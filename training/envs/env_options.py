"""What may be said of an environment beside its setup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heron.errors import ConfigError, ConfigProblem
from heron.messaging import Broker
from heron.messaging.chosen import IN_MEMORY, open_broker
from heron.policy import PolicyCodec
from heron.policy.codec import View, hidden_features

ENV_KEYS = (
    "env_id",
    "centralized",
    "message_broker",
    "visibility_level",
    "through_registers",
    "event_driven",
    "timing",
    "timing_jitter",
    "shield",
)

_SWITCHES = ("centralized", "through_registers", "event_driven", "shield")


def split_options(env_config: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the setup, and what is said of the environment beside it.

    Args:
        env_config: The setup; where it is a mapping, options may stand in it.
        options: Said separately; they hold over those.

    Raises:
        ConfigError: A key is unknown, or a value is not what it may be.
    """
    problems = [
        ConfigProblem(k, options[k], f"one of {', '.join((*ENV_KEYS, 'protocol'))}")
        for k in sorted(set(options) - set(ENV_KEYS))
    ]
    own = dict(options)
    if isinstance(env_config, Mapping):
        own = {k: env_config[k] for k in ENV_KEYS if k in env_config} | own
        env_config = {k: v for k, v in env_config.items() if k not in ENV_KEYS}
    problems += [
        ConfigProblem(k, own[k], "true or false")
        for k in _SWITCHES
        if not isinstance(own.get(k, False), bool)
    ]
    broker = own.get("message_broker")
    if not (broker is None or isinstance(broker, (str, Broker))):
        expected = f"{IN_MEMORY}, mqtt://host:port, or a heron.messaging.Broker"
        problems.append(ConfigProblem("message_broker", broker, expected))
    if problems:
        raise ConfigError(problems)
    return env_config, own


def refuse_hidden(
    rules: Mapping[str, Sequence[str]] | None, codecs: Mapping[str, PolicyCodec]
) -> None:
    """Refuse rules that hide from a coordinator what its observation is made of.

    Args:
        rules: By asker, the owners that it may ask for.
        codecs: By coordinator.

    Raises:
        ConfigError: With each device that is hidden, and from whom.
    """
    hidden = {
        (name, field.agent): None
        for name, codec in codecs.items()
        for field in codec.fields
        if rules and field.agent != name and field.agent not in rules.get(name, (field.agent,))
    }
    if hidden:
        raise ConfigError(
            [
                ConfigProblem(
                    f"visibility_rules[{name}]",
                    "without " + owner,
                    "all that its observation is made of; visibility_level makes it smaller",
                )
                for name, owner in hidden
            ]
        )


def refuse_unseen(
    agents: Mapping[str, Any], codecs: Mapping[str, PolicyCodec], view: View, *, delivered: bool
) -> None:
    """Refuse observations that hold what an agent may not see.

    Args:
        agents: The coordinators.
        codecs: Theirs.
        view: What the environment was told to show (``visibility_level``).
        delivered: Whether what they see is delivered to them: late, over a broker or by a proxy.
            Nobody delivers to a coordinator what only the system operator may see.

    Raises:
        ConfigError: With each feature, and from whom it is hidden.
    """
    shown: View = "upper_level" if delivered and view == "system" else view
    expected = "a feature that the agent may see" + (" or be told of" if shown != view else "")
    problems = [
        ConfigProblem(f"visibility_level = {view}: observation of {name}", feature, expected)
        for name, codec in codecs.items()
        for feature in hidden_features(agents[name], codec, shown)
    ]
    if problems:
        raise ConfigError(problems)


def broker_of(own: Mapping[str, Any]) -> tuple[Broker | None, Broker | None]:
    """Return the broker that an environment uses, and the one that it has to close itself.

    Args:
        own: As `split_options` returns it.

    Raises:
        ConfigError: It names no broker.
        BrokerUnavailable: No broker answers at its address.
    """
    chosen = own.get("message_broker")
    if not isinstance(chosen, str):
        return chosen, None
    broker = open_broker(chosen)
    return broker, (None if chosen == IN_MEMORY else broker)
