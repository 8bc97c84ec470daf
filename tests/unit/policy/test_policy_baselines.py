from __future__ import annotations

import numpy as np
import pytest

from heron.policy import FieldSpec, PolicyCodec, SetpointSpec
from heron.policy.baselines import IdlePolicy, RulePolicy

CODEC = PolicyCodec(
    "MG1",
    (
        FieldSpec("MG1", "MarketSignal", "price", "$/MWh", 50.0),
        FieldSpec("MG1", "MarketSignal", "rank"),
        FieldSpec("ess1", "ElectricalBasePh", "v_pu", "pu"),
    ),
    (
        SetpointSpec("gen1", "p_mw", 0.1, 1.0),
        SetpointSpec("ess1", "p_mw", -0.5, 0.5, "centred"),
        SetpointSpec("ess1", "q_mvar", -0.1, 0.2, "centred"),
        SetpointSpec("pv1", "p_mw", 0.0, 0.5, "ceiling"),
    ),
)


def values(action: np.ndarray) -> list[float]:
    return [s.decode(float(x)) for s, x in zip(CODEC.setpoints, action, strict=True)]


def test_idle_runs_at_minimum_rests_and_does_not_curtail() -> None:
    assert values(IdlePolicy(CODEC).act(np.zeros(3))) == pytest.approx([0.1, 0.0, 0.0, 0.5])


def test_rule_dispatches_where_marginal_cost_meets_the_price() -> None:
    rule = RulePolicy(CODEC, {"gen1": (12.0, 32.0)})
    got = values(rule.act([44.0 / 50.0, 0.5, 1.0]))
    assert got == pytest.approx([0.5, 0.0, 0.0, 0.5], abs=1e-6)


def test_rule_charges_when_cheap_and_discharges_when_dear() -> None:
    rule = RulePolicy(CODEC, {"gen1": (12.0, 32.0)})
    assert values(rule.act([1.0, 0.1, 1.0]))[1] == -0.5
    assert values(rule.act([1.0, 0.9, 1.0]))[1] == 0.5


def test_rule_supports_the_voltage_beyond_its_dead_band() -> None:
    rule = RulePolicy(CODEC, {}, v_dead_pu=0.01, v_full_pu=0.05, response=1.0)
    assert values(rule.act([1.0, 0.5, 0.995]))[2] == 0.0
    assert values(rule.act([1.0, 0.5, 0.97]))[2] == pytest.approx(0.1, rel=1e-4)
    assert values(rule.act([1.0, 0.5, 1.08]))[2] == pytest.approx(-0.1)


def test_rule_goes_a_part_of_the_way_to_the_droop_in_each_step() -> None:
    rule = RulePolicy(CODEC, {}, v_dead_pu=0.01, v_full_pu=0.05, response=0.5)
    assert values(rule.act([1.0, 0.5, 0.97]))[2] == pytest.approx(0.05, rel=1e-4)
