import itertools

import pytest

from heron.powergrid.modes import (
    DRIVING,
    TRANSITIONS,
    Authority,
    Changed,
    Kept,
    Mode,
    ModeMachine,
    Refused,
    authority_of,
)

RULE, COORD, OPER = Authority.RULE, Authority.COORDINATOR, Authority.OPERATOR


@pytest.mark.parametrize(("before", "after"), list(itertools.permutations(Mode, 2)))
@pytest.mark.parametrize("by", list(Authority))
def test_every_transition_follows_the_table(before: Mode, after: Mode, by: Authority) -> None:
    machine = ModeMachine(before)
    needed = TRANSITIONS.get((before, after))
    outcome = machine.request(after, by, "test")
    if needed is not None and by >= needed:
        assert isinstance(outcome, Changed)
        assert machine.mode is after
    else:
        assert isinstance(outcome, Refused)
        assert machine.mode is before


@pytest.mark.parametrize("before", list(Mode))
def test_an_operator_can_stop_from_anywhere(before: Mode) -> None:
    machine = ModeMachine(before)
    machine.request(Mode.STOPPED, OPER, "stop")
    assert machine.mode is Mode.STOPPED


@pytest.mark.parametrize("by", [RULE, COORD])
@pytest.mark.parametrize("wanted", [m for m in Mode if m is not Mode.STOPPED])
def test_nobody_but_an_operator_leaves_stopped(by: Authority, wanted: Mode) -> None:
    machine = ModeMachine()
    machine.request(Mode.STOPPED, OPER, "stop")
    assert isinstance(machine.request(wanted, by, "again"), Refused)
    assert machine.mode is Mode.STOPPED


def test_a_rule_returns_only_from_a_fallback_by_rule() -> None:
    machine = ModeMachine()
    machine.lose("command expired")
    assert isinstance(machine.recover(), Changed)
    machine.request(Mode.FALLBACK, COORD, "maintenance")
    assert isinstance(machine.recover(), Refused)
    assert isinstance(machine.request(Mode.CLOSED_LOOP, COORD, "done"), Changed)


def test_an_operator_can_pin_a_fallback_that_a_rule_began() -> None:
    machine = ModeMachine()
    machine.lose("bad data")
    assert isinstance(machine.request(Mode.FALLBACK, OPER, "stay"), Kept)
    assert isinstance(machine.recover(), Refused)


def test_only_driving_modes_write() -> None:
    for mode in Mode:
        assert ModeMachine(mode).writes is (mode in DRIVING)


def test_stopped_writes_only_where_the_agent_was_driving() -> None:
    driving = ModeMachine(Mode.CLOSED_LOOP)
    driving.request(Mode.STOPPED, OPER, "stop")
    assert driving.writes
    watching = ModeMachine(Mode.ADVISORY)
    watching.request(Mode.STOPPED, OPER, "stop")
    assert not watching.writes


def test_a_read_only_link_never_gets_a_driving_mode() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ModeMachine(Mode.CLOSED_LOOP, read_only=True)
    machine = ModeMachine(Mode.MONITOR, read_only=True)
    assert isinstance(machine.request(Mode.CLOSED_LOOP, OPER, "go"), Refused)
    machine.request(Mode.STOPPED, OPER, "stop")
    assert isinstance(machine.request(Mode.FALLBACK, OPER, "go"), Refused)
    assert not machine.writes


@pytest.mark.parametrize(
    ("issuer", "authority"),
    [("operator", OPER), ("operator:eva", OPER), ("MG1", COORD), ("operators", COORD), ("", COORD)],
)
def test_the_issuer_says_whose_authority_it_is(issuer: str, authority: Authority) -> None:
    assert authority_of(issuer) is authority
