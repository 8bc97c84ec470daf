"""The operator's protocol over a bus: who is missing, late, silent or wrong does not stop it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from controller.market import Outbox, features_of, vectors_of
from controller.runtime import ControllerRuntime
from heron.errors import ConfigError
from heron.messaging.bus import MemoryHub
from heron.messaging.topics import ALARM, CLOCK, COMMAND, COORDINATED, MARKET, REPORT, STATUS
from heron.messaging.wire import AgentReport, Command, Coordinated
from heron.powergrid.agents import SCHEMES, MicrogridView, Scheme, scheme_of
from heron.powergrid.setups import Setup
from heron.protocols import Protocol

Controlled = Callable[..., AbstractAsyncContextManager[tuple[Any, ControllerRuntime]]]
DAY, HOUR = 110, 15
"""An hour at which microgrids trade."""
WHEN: dict[str, Any] = {"day": DAY, "hour": HOUR}


async def step(field: Any, commands: Any, n: int = 7) -> dict[str, Command]:
    """Publish clock and telemetry, and return the commands that come."""
    await field.bus.publish(CLOCK, field.clock())
    await field.report()
    return dict([await anext(commands) for _ in range(n)])


async def test_a_market_clears_each_step_and_its_record_balances(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, protocol="p2p", **WHEN) as (field, _),
        field.bus.subscribe(MARKET) as records,
        field.bus.subscribe(COMMAND) as commands,
    ):
        for _ in range(4):
            field.act(await step(field, commands))
            _, record = await anext(records)
            assert record.participants == ("MG1", "MG2", "MG3")
            assert record.missing == ()
            assert record.price_usd_per_mwh is not None
            assert record.energy_mwh > 0.01
            assert sum(t["trade_mwh"] for t in record.trades.values()) == pytest.approx(0, abs=1e-9)
            kept = -sum(t["income_usd"] for t in record.trades.values())
            assert record.fees_usd == pytest.approx(kept, abs=1e-9)
            assert record.fees_usd > 0.0


async def test_a_participant_that_is_missing_does_not_stop_the_others(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, protocol="p2p", agents=("MG1", "MG2"), answer_s=6.0, **WHEN) as (
            field,
            runtime,
        ),
        field.bus.subscribe(MARKET) as records,
        field.bus.subscribe(COMMAND) as commands,
    ):
        for _ in range(2):
            got = await step(field, commands, 5)
            _, record = await anext(records)
            assert record.participants == ("MG1", "MG2")
            assert record.missing == ("MG3",)
            assert {c.issuer for c in got.values()} == {"MG1", "MG2"}
            # the plant takes the last set-points of those that nobody commands
            field.plant.step({}, 900.0)
    assert runtime.held() == {}


async def test_a_report_that_comes_late_takes_no_part_until_the_next_step(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, protocol="p2p", agents=("MG1",), answer_s=6.0, **WHEN) as (field, _),
        field.bus.subscribe(MARKET) as records,
        field.bus.subscribe(COORDINATED) as answers,
        field.bus.subscribe(COMMAND) as commands,
    ):
        await step(field, commands, 3)
        _, first = await anext(records)
        assert first.participants == ("MG1",)
        late = AgentReport(agent="MG2", sequence=1, step=0, time_s=first.time_s, features={})
        await field.bus.publish(REPORT, late, agent="MG2")
        field.plant.step({}, 900.0)
        # it is waited for again, and in time
        offer = {"sell_mwh": 0.1, "ask_usd_per_mwh": 1.0, "buy_mwh": 0.0, "bid_usd_per_mwh": 0.0}
        report = AgentReport(
            agent="MG2",
            sequence=2,
            step=1,
            time_s=field.now.time_s,
            features={"MarketOffer": offer},
        )
        await field.bus.publish(REPORT, report, agent="MG2")
        await step(field, commands, 3)
        _, second = await anext(records)
        told = [await anext(answers) for _ in range(3)]
    # in the order of the setup, though MG2's report was there first
    assert second.participants == ("MG1", "MG2")
    assert [m.sequence for agent, m in told if agent == "MG2"] == [2]


async def test_without_an_answer_a_coordinator_serves_itself_and_says_so(
    setup: Setup, controlled: Controlled
) -> None:
    """The DSO lives, and its market says nothing: the coordinators here run without it."""
    hub = MemoryHub()
    async with (
        controlled(setup, protocol="setpoint", agents=(), hub=hub, **WHEN),
        controlled(setup, protocol="p2p", system=False, hub=hub, answer_s=0.2, **WHEN) as (
            field,
            runtime,
        ),
        field.bus.subscribe(COMMAND) as commands,
        field.bus.subscribe(ALARM, agent="MG2") as alarms,
    ):
        got = await step(field, commands)
        _, alarm = await anext(alarms)
        assert alarm.text == "on its own: no answer from the operator within 0.2 s"
        expected = alone(setup, field, "p2p")
        assert {a: (c.p_mw, c.q_mvar) for a, c in got.items()} == expected
    assert runtime.held() == {}


def alone(setup: Setup, field: Any, protocol: str) -> dict[str, tuple[float, float]]:
    """Return what each device does when its coordinator serves itself."""
    dso = scheme_of(protocol).build(setup)
    now, config = field.now, setup.config
    price = setup.profiles.mean(config.price_profile, now.time_s, 900.0)
    day_ahead = setup.profiles.day_ahead(now.time_s, config.price_profile)
    for name, microgrid in dso.microgrids.items():
        view = MicrogridView(now.time_s, now.meters[name], now.devices, price, day_ahead)
        microgrid.update_from(view)
        microgrid.bring(None)  # type: ignore[attr-defined]
        microgrid.serve_itself()  # type: ignore[attr-defined]
    return {
        name: (proposal.p_mw, proposal.q_mvar)
        for microgrid in dso.microgrids.values()
        for name, proposal in microgrid.proposals.items()
    }


@pytest.mark.parametrize("protocol", ["setpoint", "p2p"])
async def test_a_dead_dso_does_not_stop_the_coordinators_of_another_process(
    setup: Setup, controlled: Controlled, protocol: str
) -> None:
    hub = MemoryHub()
    async with (
        controlled(setup, protocol=protocol, system=False, hub=hub, answer_s=60.0, **WHEN) as (
            field,
            runtime,
        ),
        field.bus.subscribe(COMMAND) as commands,
        field.bus.subscribe(ALARM, agent="MG1") as alarms,
    ):
        async with controlled(setup, protocol=protocol, agents=(), hub=hub, answer_s=60.0, **WHEN):
            field.act(await step(field, commands))
        # the DSO is gone; the plant waits, and says its step again
        await field.bus.publish(CLOCK, field.clock())
        got = await step(field, commands)
        assert {c.step for c in got.values()} == {field.now.step}
        _, alarm = await anext(alarms)
        assert (alarm.text, alarm.active) == ("on its own: DSO is silent", True)
        if protocol == "p2p":
            assert {a: (c.p_mw, c.q_mvar) for a, c in got.items()} == alone(setup, field, protocol)
        field.act(got)
        # and back again
        async with controlled(setup, protocol=protocol, agents=(), hub=hub, answer_s=60.0, **WHEN):
            await step(field, commands)
            _, alarm = await anext(alarms)
            assert (alarm.text, alarm.active) == (
                "with the operator again, after: DSO is silent",
                False,
            )
    assert runtime.held() == {}


async def test_before_the_dso_has_ever_spoken_nothing_is_commanded(
    setup: Setup, controlled: Controlled
) -> None:
    async with (
        controlled(setup, system=False) as (field, runtime),
        field.bus.subscribe(STATUS, agent="MG1") as statuses,
    ):
        for _ in range(2):
            await field.bus.publish(CLOCK, field.clock())
        await field.report()
        await field.bus.publish(CLOCK, field.clock(finished=True))
        async for _, status in statuses:
            if not status.online:
                break
    assert runtime.tally.decided == {}


class Fails(Protocol):
    """A protocol of the operator that cannot decide."""

    needs_action = False

    def coordinate(self, action: Any, subordinates: Any, *rest: Any) -> Any:
        raise ValueError("the market is closed")


async def test_a_protocol_that_fails_leaves_each_to_itself_and_says_why(
    setup: Setup, controlled: Controlled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    p2p = SCHEMES["p2p"]
    failing = Scheme("failing", p2p.coordinator, p2p.protocol, Fails)
    monkeypatch.setattr("heron.powergrid.agents.schemes.SCHEMES", {**SCHEMES, "failing": failing})
    async with (
        controlled(setup, protocol="failing", **WHEN) as (field, _),
        field.bus.subscribe(MARKET) as records,
        field.bus.subscribe(COMMAND) as commands,
    ):
        got = await step(field, commands)
        _, record = await anext(records)
        assert record.why == "the market is closed"
        assert {a: (c.p_mw, c.q_mvar) for a, c in got.items()} == alone(setup, field, "p2p")


async def test_an_answer_to_an_older_report_is_not_taken_for_the_present_one(
    setup: Setup, controlled: Controlled
) -> None:
    hub = MemoryHub()
    async with (
        controlled(setup, protocol="setpoint", agents=(), hub=hub, **WHEN),
        controlled(
            setup, protocol="p2p", agents=("MG1",), system=False, hub=hub, answer_s=0.3, **WHEN
        ) as (field, _),
        field.bus.subscribe(REPORT) as reports,
        field.bus.subscribe(COMMAND) as commands,
    ):
        await field.bus.publish(CLOCK, field.clock())
        await field.report()
        _, report = await anext(reports)
        old = Coordinated(
            agent="MG1", sequence=report.sequence - 1, protocol="p2p", signal={"local_price": 900.0}
        )
        await field.bus.publish(COORDINATED, old, agent="MG1")
        got = dict([await anext(commands) for _ in range(3)])
        expected = alone(setup, field, "p2p")
    assert {a: (c.p_mw, c.q_mvar) for a, c in got.items()} == {a: expected[a] for a in got}


def test_a_report_survives_the_wire_bit_for_bit(setup: Setup) -> None:
    agent = scheme_of("p2p").build(setup).microgrids["MG1"]
    sent = AgentReport(agent="MG1", sequence=1, time_s=0.0, features=features_of(agent))
    received = AgentReport.model_validate_json(sent.model_dump_json())
    vectors = vectors_of(agent, received)
    assert set(vectors) == set(agent.shown_upstream())
    for name, vector in agent.shown_upstream().items():
        assert (vectors[name] == vector).all()


def test_a_report_with_a_hole_does_not_show_the_feature(setup: Setup) -> None:
    agent = scheme_of("p2p").build(setup).microgrids["MG1"]
    report = AgentReport(
        agent="MG1", sequence=1, time_s=0.0, features={"MarketOffer": {"sell_mwh": 1.0}}
    )
    assert vectors_of(agent, report) == {}


def test_what_is_not_finite_cannot_be_reported() -> None:
    with pytest.raises(ValueError, match="finite"):
        AgentReport(
            agent="MG1", sequence=1, time_s=0.0, features={"LocalPrice": {"price": float("nan")}}
        )


def test_the_outbox_keeps_what_the_operator_tells(setup: Setup) -> None:
    dso = scheme_of("consensus").build(setup)
    dso.listen()
    outbox = Outbox(0.0)
    dso.coordinate_subordinates(None, None, outbox)
    assert set(outbox.signals) == {"MG1", "MG2", "MG3"}
    assert all(set(signal) == {"local_price"} for signal in outbox.signals.values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("barter", "one of setpoint, price, p2p, consensus, system"),
        ("no_such_module:Thing", "a module that can be loaded"),
        ("heron.protocols:run_protocol", "a Protocol class or a Scheme; heron.protocols holds"),
        ("heron.protocols:Nothing", "holds nothing of that name"),
        ("/no/such/file.py:Thing", "a module that can be loaded"),
    ],
)
def test_an_unknown_protocol_is_refused_in_one_line(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        scheme_of(text)


def test_the_guides_name_of_the_price_signal_is_understood() -> None:
    assert scheme_of("price_signal") is SCHEMES["price"]


FAIR_PRICE = """
from functools import partial

from heron.powergrid.agents import MarketGridAgent, Scheme
from heron.protocols import Coordination, Protocol


class FairPrice(Protocol):
    needs_action = False
    needs_observation = True

    def coordinate(self, action, subordinates, observation=None, context=None):
        shown = observation.local["subordinates"]
        prices = [float(s["LocalPrice"][0]) for s in shown.values() if "LocalPrice" in s]
        mean = sum(prices) / len(prices)
        return Coordination(signals={name: {"local_price": mean} for name in subordinates})


fair = Scheme("fair", partial(MarketGridAgent, negotiates=True), lambda: None, FairPrice)
"""
"""The consensus, written by a user: one exchange, everybody with everybody."""


async def test_a_users_protocol_of_the_operator_runs_deployed(
    setup: Setup, controlled: Controlled, tmp_path: Path
) -> None:
    (tmp_path / "fair_price.py").write_text(FAIR_PRICE, encoding="utf-8")
    told = []
    for protocol in (f"{tmp_path / 'fair_price.py'}:fair", "consensus"):
        async with (
            controlled(setup, protocol=protocol, **WHEN) as (field, _),
            field.bus.subscribe(MARKET) as records,
            field.bus.subscribe(COMMAND) as commands,
        ):
            got = await step(field, commands)
            _, record = await anext(records)
            assert record.why == ""
            told.append((record.price_usd_per_mwh, {a: c.p_mw for a, c in got.items()}))
    (price, powers), (agreed, expected) = told
    assert price == pytest.approx(agreed, abs=1e-4)
    assert powers == pytest.approx(expected, abs=1e-4)
