"""No number that is absurd passes the wire, in any message; what is malformed drives nothing."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from heron.errors import ConfigError
from heron.messaging import wire
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import COMMAND, SIGNAL, TOPICS
from heron.messaging.wire import Command, Message, PlantClock, SystemSignal

Place = tuple[str | int, ...]

EXAMPLES: dict[type[Message], dict[str, Any]] = {
    wire.Status: {"agent": "a", "online": True, "role": "edge", "sent_s": 1.7e9},
    wire.Telemetry: {
        "agent": "a",
        "sequence": 1,
        "step": 2,
        "time_s": 900.0,
        "points": {"p_mw": {"value": 0.5, "quality": "good", "age_s": 0.1}},
        "sent_s": 1.7e9,
    },
    wire.Command: {
        "agent": "a",
        "sequence": 1,
        "step": 2,
        "p_mw": 0.5,
        "q_mvar": 0.1,
        "tap": 3,
        "ttl_s": 60.0,
        "issuer": "MG1",
        "sent_s": 1.7e9,
    },
    wire.CommandResult: {
        "agent": "a",
        "sequence": -1,
        "step": 2,
        "proposed_p_mw": 0.5,
        "proposed_q_mvar": 0.1,
        "applied_p_mw": 0.5,
        "applied_q_mvar": 0.1,
        "proposed_tap": 1,
        "applied_tap": 1,
        "written": True,
        "cycle_ms": 3.0,
    },
    wire.ModeRequest: {"agent": "a", "mode": "stopped", "issuer": "operator"},
    wire.LimitRequest: {
        "agent": "MG1",
        "p_export_max_mw": 1.0,
        "p_import_max_mw": 2.0,
        "issuer": "operator",
    },
    wire.PolicyRequest: {"agent": "a", "action": "report", "issuer": "operator"},
    wire.PolicyReport: {
        "agent": "a",
        "decisions": 4,
        "failures": 1,
        "mean_difference": 0.1,
        "largest_difference": 0.2,
        "swaps": 1,
        "rollbacks": 0,
    },
    wire.SystemSignal: {
        "agent": "MG1",
        "sequence": 1,
        "step": 2,
        "time_s": 900.0,
        "price_usd_per_mwh": -20.0,
        "day_ahead_usd_per_mwh": [40.0, 41.0],
        "p_export_max_mw": 1.0,
        "p_import_max_mw": 2.0,
    },
    wire.AgentReport: {
        "agent": "MG1",
        "sequence": 1,
        "step": 2,
        "time_s": 900.0,
        "features": {"MarketOffer": {"sell_mwh": 0.2}},
    },
    wire.Coordinated: {
        "agent": "MG1",
        "sequence": 1,
        "step": 2,
        "protocol": "p2p",
        "signal": {"trade_mwh": 0.2},
        "action": [0.1, -0.1],
    },
    wire.MarketRecord: {
        "agent": "DSO",
        "step": 2,
        "time_s": 900.0,
        "protocol": "p2p",
        "price_usd_per_mwh": 40.0,
        "energy_mwh": 0.2,
        "fees_usd": 0.01,
        "trades": {"MG1": {"trade_mwh": 0.2}},
    },
    wire.Acted: {"agent": "edge-1", "step": 2},
    wire.PlantClock: {"epoch": 1, "step": 2, "time_s": 900.0, "step_s": 900.0, "pace": "x60"},
    wire.StepAccount: {
        "step": 2,
        "time_s": 900.0,
        "agents": {
            "MG1": {"reward": -1.0, "cost_usd": 1.0, "safety": 0.0, "v_min_pu": 1, "v_max_pu": 1}
        },
        "reward": -1.0,
        "cost_usd": 1.0,
        "violation_pu": 0.0,
        "v_min_pu": 0.99,
        "v_max_pu": 1.01,
        "losses_mw": 0.01,
        "price_usd_per_mwh": 40.0,
        "tap_moves": 1,
    },
    wire.Decision: {
        "agent": "MG1",
        "step": 2,
        "time_s": 900.0,
        "action": [0.1],
        "decide_ms": 2.0,
    },
    wire.Alarm: {"agent": "a", "severity": "info", "text": "x", "sent_s": 1.7e9},
}
"""A good message of each kind, with every number that it can carry."""


def numbers(value: Any, at: Place = ()) -> Iterator[tuple[Place, float]]:
    """Yield the place of every number in a message, and the number."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield at, value
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    for key, inner in items:
        yield from numbers(inner, (*at, key))


def with_value(example: Any, at: Place, value: object) -> Any:
    """Return a copy of a message with one value replaced."""
    if not at:
        return value
    copy = example.copy()
    copy[at[0]] = with_value(copy[at[0]], at[1:], value)
    return copy


PLACES = [(model, at) for model, example in EXAMPLES.items() for at, _ in numbers(example)]
BOUNDED = {
    (Command, "p_mw"): (-1e9, 1e9),
    (Command, "q_mvar"): (-1e9, 1e9),
    (Command, "tap"): (-1000, 1000),
    (Command, "ttl_s"): (5e-324, 86_400.0),
    (Command, "sequence"): (0, 2**53 - 1),
    (SystemSignal, "price_usd_per_mwh"): (-1e9, 1e9),
    (SystemSignal, "p_export_max_mw"): (0.0, 1e9),
    (SystemSignal, "p_import_max_mw"): (0.0, 1e9),
    (SystemSignal, "time_s"): (0.0, 1e11),
    (wire.LimitRequest, "p_export_max_mw"): (0.0, 1e9),
    (wire.LimitRequest, "p_import_max_mw"): (0.0, 1e9),
    (PlantClock, "time_s"): (0.0, 1e11),
    (PlantClock, "step_s"): (5e-324, 86_400.0),
    (PlantClock, "step"): (0, 2**53 - 1),
}


def parse(model: type[Message], raw: Any) -> Message:
    return model.model_validate_json(json.dumps(raw))


def test_there_is_an_example_of_every_message_with_every_number_it_can_carry() -> None:
    assert set(EXAMPLES) == {topic.model for topic in TOPICS}
    for model, example in EXAMPLES.items():
        shown = {at for at, _ in numbers(parse(model, example).model_dump())}
        assert {at for at, _ in numbers(example)} >= shown


@given(st.sampled_from(PLACES), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_no_number_of_any_message_may_be_infinite_or_no_number(
    place: tuple[type[Message], Place], value: float
) -> None:
    model, at = place
    with pytest.raises(ValidationError):
        parse(model, with_value(EXAMPLES[model], at, value))


@given(
    st.sampled_from(PLACES),
    st.one_of(st.floats(), st.integers(), st.sampled_from([10**400, -(10**400), 1e308, -1e308])),
)
def test_what_passes_the_wire_is_finite_and_in_its_range(
    place: tuple[type[Message], Place], value: float
) -> None:
    model, at = place
    try:
        message = parse(model, with_value(EXAMPLES[model], at, value))
    except ValidationError:
        return
    for where, number in numbers(message.model_dump()):
        assert math.isfinite(number), where
        low, high = BOUNDED.get((model, str(where[0])), (-math.inf, math.inf))
        assert low <= number <= high, where


@pytest.mark.parametrize(("model", "key"), BOUNDED)
def test_the_ends_of_a_range_pass_and_what_is_beyond_does_not(
    model: type[Message], key: str
) -> None:
    low, high = BOUNDED[model, key]
    for end in (low, high):
        parse(model, with_value(EXAMPLES[model], (key,), end))
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValidationError, match=key):
            parse(model, with_value(EXAMPLES[model], (key,), beyond))


@pytest.mark.parametrize("value", [True, "5", "NaN"])
@pytest.mark.parametrize("key", ["p_mw", "q_mvar", "tap", "ttl_s"])
def test_a_command_takes_nothing_for_a_number_that_json_does_not_call_one(
    key: str, value: object
) -> None:
    with pytest.raises(ValidationError, match=key):
        parse(Command, with_value(EXAMPLES[Command], (key,), value))


@pytest.mark.parametrize("pace", ["lockstep", "real", "rated", "max", "x60", "x0.5", "x100000"])
def test_a_clock_may_say_every_pace_there_is(pace: str) -> None:
    parse(PlantClock, EXAMPLES[PlantClock] | {"pace": pace})


@pytest.mark.parametrize("pace", ["", "x", "x0", "x-1", "xinf", "xnan", "x1e9", "x100001", "60"])
def test_a_clock_with_an_absurd_pace_is_refused(pace: str) -> None:
    with pytest.raises(ValidationError, match="pace"):
        parse(PlantClock, EXAMPLES[PlantClock] | {"pace": pace})


MALFORMED = [
    b"",
    b"\xff\xfe",
    b"null",
    b"[]",
    b"{",
    b"[" * 10_000,
    json.dumps(EXAMPLES[Command] | {"ttl_s": math.inf}).encode(),
    json.dumps(EXAMPLES[Command] | {"p_mw": math.nan}).encode(),
]


@pytest.mark.parametrize("payload", MALFORMED)
async def test_a_malformed_message_is_dropped_with_one_line_and_the_next_good_one_arrives(
    payload: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    hub = MemoryHub()
    good = Command.model_validate(EXAMPLES[Command])
    async with (
        InMemoryBus(hub) as sender,
        InMemoryBus(hub) as bus,
        bus.subscribe(COMMAND) as commands,
    ):
        with caplog.at_level(logging.WARNING):
            for _ in range(3):
                hub.route("heron/site/command/a", payload, retain=False)
            await sender.publish(COMMAND, good, agent="a")
            assert await anext(commands) == ("a", good)
        assert commands.waiting == 0
        assert bus.counters.invalid == 3
    assert [r.getMessage().split()[:2] for r in caplog.records] == [
        ["message_invalid", "topic=heron/site/command/a"]
    ]


async def test_a_topic_that_goes_wrong_again_is_told_of_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = MemoryHub()
    bad = json.dumps(EXAMPLES[SystemSignal] | {"p_export_max_mw": -1.0}).encode()
    good = json.dumps(EXAMPLES[SystemSignal]).encode()
    async with InMemoryBus(hub) as bus, bus.subscribe(SIGNAL) as signals:
        with caplog.at_level(logging.WARNING):
            for payload in (bad, good, bad):
                hub.route("heron/site/signal/MG1", payload, retain=False)
        assert signals.waiting == 1
    assert len(caplog.records) == 2


@pytest.mark.parametrize(
    "text", ["stop\n02:00 WARNING edge mode device=x", "a\x1b[2Kb", "a\u2028b"]
)
def test_a_reason_cannot_write_a_line_of_its_own_into_the_log(text: str) -> None:
    raw = EXAMPLES[wire.ModeRequest] | {"reason": text, "issuer": text}
    request = parse(wire.ModeRequest, raw)
    assert isinstance(request, wire.ModeRequest)
    assert request.reason.isprintable() and request.issuer.isprintable()
    assert request.mode == "stopped"  # obeyed all the same


def test_a_reason_of_a_megabyte_is_cut() -> None:
    raw = EXAMPLES[wire.ModeRequest] | {"reason": "x" * 1_000_000}
    request = parse(wire.ModeRequest, raw)
    assert isinstance(request, wire.ModeRequest)
    assert len(request.reason) == wire.LONGEST_TEXT


@pytest.mark.parametrize("site", ["", "a/b", "#", "+", "a\0"])
def test_a_site_that_cannot_stand_in_a_topic_is_one_clear_line(site: str) -> None:
    with pytest.raises(ConfigError, match="expected a name without /"):
        InMemoryBus(site=site)
