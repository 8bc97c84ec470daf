"""MQTT over TLS against a real mosquitto: who is not known gets no word through."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from heron.errors import BrokerUnavailable, ConfigError
from heron.messaging import Message
from heron.messaging.address import BrokerAddress
from heron.messaging.mqtt import MqttBus, Patience
from heron.messaging.mqtt_broker import MqttBroker
from heron.messaging.topics import ALARM
from heron.messaging.wire import Alarm
from heron.testing.brokers import mosquitto
from heron.testing.certificates import Authority

pytestmark = pytest.mark.broker
HASTY = Patience(first_s=1.0, answer_s=2.0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "ca")


@pytest.fixture
async def broker(authority: Authority) -> AsyncIterator[str]:
    """A broker that asks every client for a certificate of our authority."""
    own = authority.sign("broker")
    settings = (
        f"cafile {authority.file}",
        f"certfile {own.certificate}",
        f"keyfile {own.key}",
        "require_certificate true",
    )
    async with mosquitto(None, *settings, scheme="mqtts") as url:
        yield url


def known(url: str, authority: Authority, name: str = "controller") -> str:
    own = authority.sign(name)
    return f"{url}?ca={authority.file}&cert={own.certificate}&key={own.key}"


async def test_a_message_arrives_between_two_with_certificates(
    broker: str, authority: Authority
) -> None:
    alarm = Alarm(agent="MG1", severity="info", text="over TLS")
    async with (
        MqttBus(known(broker, authority)) as sender,
        MqttBus(known(broker, authority, "edge")) as receiver,
        receiver.subscribe(ALARM) as alarms,
    ):
        await sender.publish(ALARM, alarm, agent="MG1")
        assert await anext(alarms) == ("MG1", alarm)
        assert sender.address == broker


def test_the_synchronous_broker_speaks_tls_too(broker: str, authority: Authority) -> None:
    with MqttBroker(known(broker, authority)) as mqtt:
        mqtt.create_channel("c")
        mqtt.publish("c", Message("env", "a", "b", payload={"x": 1.0}))
        assert [m.payload["x"] for m in mqtt.consume("c", "b", "env")] == [1.0]


async def test_without_a_certificate_of_its_own_nobody_gets_in(
    broker: str, authority: Authority
) -> None:
    with pytest.raises(BrokerUnavailable):
        async with MqttBus(f"{broker}?ca={authority.file}", patience=HASTY):
            pass


async def test_a_certificate_of_another_authority_is_refused(
    broker: str, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    own = Authority(folder, "other").sign("intruder")
    url = f"{broker}?ca={authority.file}&cert={own.certificate}&key={own.key}"
    with pytest.raises(BrokerUnavailable):
        async with MqttBus(url, patience=HASTY):
            pass


async def test_a_broker_that_is_not_known_is_not_talked_to(
    broker: str, authority: Authority, tmp_path: Path
) -> None:
    folder = tmp_path / "others"
    folder.mkdir()
    stranger = Authority(folder, "other")
    own = authority.sign("controller")
    url = f"{broker}?ca={stranger.file}&cert={own.certificate}&key={own.key}"
    with pytest.raises(BrokerUnavailable, match=r"(?i)certificate verify failed"):
        async with MqttBus(url, patience=HASTY):
            pass


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("?ca=/no/such/file.pem", r"broker\.ca"),
        ("?cert={text}", r"broker\.cert and key"),
        ("?key={text}", "expected mqtt"),
        ("?password=x", "expected mqtt"),
        ("?ca", "expected mqtt"),
    ],
)
def test_an_address_with_wrong_files_is_refused_in_one_line(
    query: str, told: str, tmp_path: Path
) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no certificate")
    with pytest.raises(ConfigError, match=told):
        BrokerAddress.parse("mqtts://broker.example" + query.format(text=text))


def test_files_go_with_tls_only() -> None:
    with pytest.raises(ConfigError, match="expected mqtt"):
        BrokerAddress.parse("mqtt://broker.example?ca=x.pem")
