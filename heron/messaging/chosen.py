"""Brokers by name, as a configuration names them."""

from __future__ import annotations

from heron.errors import ConfigError, ConfigProblem
from heron.messaging.base import Broker
from heron.messaging.in_memory import InMemoryBroker

IN_MEMORY = "in_memory"


def open_broker(chosen: str) -> Broker:
    """Return a new broker of a name or at an address; whoever opens it closes it.

    Args:
        chosen: ``in_memory``, or the address of an MQTT broker, ``mqtt://host:port``.

    Raises:
        ConfigError: It is neither, or the MQTT client is not installed.
        BrokerUnavailable: No broker answers there.
    """
    if chosen == IN_MEMORY:
        return InMemoryBroker()
    if not chosen.startswith(("mqtt://", "mqtts://")):
        expected = f"{IN_MEMORY}, mqtt://host:port or mqtts://host:port"
        raise ConfigError([ConfigProblem("message_broker", chosen, expected)])
    try:
        from heron.messaging.mqtt_broker import MqttBroker
    except ImportError as error:
        expected = f"{IN_MEMORY}, or an installed MQTT client: pip install aiomqtt"
        raise ConfigError([ConfigProblem("message_broker", chosen, expected)]) from error
    return MqttBroker(chosen)
