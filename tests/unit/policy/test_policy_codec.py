from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.core import CoordinatorAgentState, FeatureProvider, FieldAgentState, State
from heron.errors import ManifestMismatch, PolicyError
from heron.policy import FieldSpec, PolicyCodec, SetpointSpec, codec_of


@dataclass
class TwoPrices(FeatureProvider):
    visibility = ("owner", "upper_level")
    now: float = 0.0
    mean: float = 0.0

    def units(self) -> tuple[str, ...]:
        return ("$/MWh", "$/MWh")

    def scales(self) -> tuple[float, ...]:
        return (20.0, 10.0)


@dataclass
class OnlyForItself(TwoPrices):
    visibility = ("owner",)


def agent(state: State, *features: FeatureProvider, **more: Any) -> Any:
    state.features += features
    return SimpleNamespace(agent_id=state.owner_id, state=state, **more)


def tree() -> Any:
    spec = SetpointSpec("ess1", "p_mw", -0.5, 0.5, "centred")
    device = agent(
        FieldAgentState("ess1"),
        TwoPrices(3.0, 4.0),
        OnlyForItself(5.0, 6.0),
        setpoint_specs=lambda: [spec],
    )
    return agent(CoordinatorAgentState("MG1"), TwoPrices(1.0, 2.0), subordinates={"ess1": device})


def test_codec_holds_own_features_then_the_devices_that_may_be_seen() -> None:
    codec = codec_of(tree())
    assert [f.path for f in codec.fields] == [
        "MG1.TwoPrices.now",
        "MG1.TwoPrices.mean",
        "ess1.TwoPrices.now",
        "ess1.TwoPrices.mean",
    ]
    assert np.allclose(codec.encode(tree()), [0.05, 0.2, 0.15, 0.4])
    assert codec.encode(tree()).dtype == np.float32
    assert codec.act_dim == 1


def test_codec_survives_its_plain_form() -> None:
    codec = codec_of(tree())
    again = PolicyCodec.from_dict(codec.to_dict())
    assert again == codec
    assert again.hash == codec.hash
    assert not codec.differences(again)


def test_differences_name_every_field_that_differs() -> None:
    codec = codec_of(tree())
    shorter = PolicyCodec("MG1", codec.fields[:3], codec.setpoints)
    assert codec.differences(shorter) == [
        "observation: 4 numbers here, 3 there",
        "observation[3]: ess1.TwoPrices.mean [$/MWh] / 10 only here",
    ]
    assert shorter.hash != codec.hash


def test_agent_without_a_feature_of_the_codec_is_refused() -> None:
    codec = codec_of(tree())
    other = tree()
    other.subordinates["ess1"].state.features.clear()
    with pytest.raises(ManifestMismatch, match=r"ess1\.TwoPrices"):
        codec.encode(other)


def test_device_that_declares_no_setpoints_is_refused() -> None:
    other = tree()
    del other.subordinates["ess1"].setpoint_specs
    with pytest.raises(PolicyError, match="ess1"):
        codec_of(other)


def test_scale_of_zero_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"a\.b\.c"):
        PolicyCodec("a", (FieldSpec("a", "b", "c", "", 0.0),), ())


@pytest.mark.parametrize(
    ("mapping", "x", "value"),
    [
        ("linear", -1.0, 0.2),
        ("linear", 0.0, 0.6),
        ("linear", 5.0, 1.0),
        ("ceiling", -1.0, 0.0),
        ("ceiling", -0.65, 0.5),
        ("ceiling", -0.3, 1.0),
        ("ceiling", 0.0, 1.0),
    ],
)
def test_mapping_gives_the_hand_computed_setpoint(mapping: str, x: float, value: float) -> None:
    low = 0.0 if mapping == "ceiling" else 0.2
    assert SetpointSpec("d", "p_mw", low, 1.0, mapping).decode(x) == pytest.approx(value)


def test_centred_mapping_keeps_zero_at_zero_with_unequal_limits() -> None:
    spec = SetpointSpec("d", "q_mvar", -0.1, 0.5, "centred")
    assert spec.decode(0.0) == 0.0
    assert spec.decode(-1.0) == pytest.approx(-0.1)
    assert spec.decode(0.5) == pytest.approx(0.25)


@given(st.sampled_from(["linear", "centred", "ceiling"]), st.floats(-1, 1))
def test_encode_inverts_decode(mapping: str, x: float) -> None:
    spec = SetpointSpec("d", "p_mw", 0.0 if mapping == "ceiling" else -0.3, 0.8, mapping)
    value = spec.decode(x)
    assert spec.decode(spec.encode(value)) == pytest.approx(value, abs=1e-12)


def test_action_that_is_not_finite_is_refused() -> None:
    with pytest.raises(PolicyError, match=r"d\.p_mw"):
        SetpointSpec("d", "p_mw", 0.0, 1.0).decode(float("nan"))
