import pytest

from heron.errors import ConfigError
from simulator.pace import Gate, Pace


@pytest.mark.parametrize(
    ("text", "rate"), [("real", 1.0), ("x60", 60.0), ("x0.5", 0.5), ("max", 0.0), ("lockstep", 0.0)]
)
def test_paces_are_read(text: str, rate: float) -> None:
    assert Pace.parse(text).rate == rate


@pytest.mark.parametrize("text", ["", "fast", "x", "x0", "x-3", "60", "x1e9", "xnan", "x9999999"])
def test_what_is_no_pace_says_what_would_be(text: str) -> None:
    with pytest.raises(ConfigError, match="expected real, max, lockstep, or xK"):
        Pace.parse(text)


async def test_the_gate_opens_when_everyone_has_acted_on_this_step() -> None:
    gate = Gate(["a", "b"])
    gate.close(3)
    gate.acted("a", 3)
    gate.acted("b", 2)
    gate.acted("stranger", 3)
    assert gate.missing == ["b"]
    assert not await gate.passed(0.0)
    gate.acted("b", 3)
    assert await gate.passed(0.0)


async def test_what_was_said_about_a_step_does_not_count_for_the_next() -> None:
    gate = Gate(["a"])
    gate.close(0)
    gate.acted("a", 0)
    gate.acted("a", 1)
    gate.close(1)
    assert gate.missing == ["a"]
    assert not await gate.passed(0.0)


async def test_a_master_advances_only_from_the_current_step() -> None:
    gate = Gate([])
    gate.close(7)
    assert not gate.advance(6)
    assert not gate.advance(8)
    assert gate.advance(7)
    assert await gate.passed(0.0)


async def test_while_the_plant_steps_nobody_can_advance_it() -> None:
    gate = Gate([])
    gate.close(7)
    gate.lock()
    assert not gate.advance(7)
