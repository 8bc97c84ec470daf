"""Features, visibility, state, observation and action."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.core import (
    VISIBILITIES,
    Action,
    Box,
    CoordinatorAgentState,
    FeatureProvider,
    FieldAgentState,
    Mixed,
    MultiDiscrete,
    Observation,
    State,
    can_observe,
    feature_class,
    snake_case,
    stream,
)
from heron.errors import ConfigError


@dataclass
class Meter(FeatureProvider):
    visibility = ("owner", "upper_level")
    p_mw: float = 0.0
    q_mvar: float = 0.0


class Written(FeatureProvider):
    """A feature written out as in the guide."""

    visibility = ["owner"]  # noqa: RUF012

    def __init__(self, v_min=1.0, v_max=1.0):
        self.v_min = v_min
        self.v_max = v_max

    def vector(self):
        return np.array([self.v_min, self.v_max], dtype=np.float32)

    def names(self):
        return ["v_min", "v_max"]

    def to_dict(self):
        return {"v_min": self.v_min, "v_max": self.v_max}

    @classmethod
    def from_dict(cls, d):
        return cls(**d)


# --- visibility -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "requestor", "level", "seen"),
    [
        ("owner", "gen1", 1, True),
        ("owner", "gen10", 1, False),
        ("owner", "MG1", 2, False),
        ("upper_level", "MG1", 2, True),
        ("upper_level", "MG10", 2, False),
        ("upper_level", "gen1", 1, False),
        ("upper_level", "DSO", 3, False),
        ("system", "DSO", 3, True),
        ("system", "MG1", 2, False),
        ("public", "gen9", 1, True),
        ("public", "MG10", 2, True),
        ("public", "", 2, False),
        ("public", None, 2, False),
        ("public", "stranger", None, False),
        ("public", "proxy", 0, False),
        ("public", "MG1", 4, False),
    ],
)
def test_each_rule_shows_a_feature_to_exactly_those_it_names(rule, requestor, level, seen):
    assert can_observe([rule], requestor, level, "gen1", 1, "MG1") is seen


def test_upper_level_means_any_agent_one_level_above_while_the_parent_is_unknown():
    assert can_observe(["upper_level"], "MG7", 2, "gen1", 1)
    assert not can_observe(["upper_level"], "DSO", 3, "gen1", 1)


@given(st.lists(st.sampled_from(VISIBILITIES)), st.text(), st.integers(-1, 5))
def test_more_rules_never_show_less(rules, requestor, level):
    if can_observe(rules[:1], requestor, level, "gen1", 1, "MG1"):
        assert can_observe(rules, requestor, level, "gen1", 1, "MG1")


def test_an_unknown_visibility_is_refused_when_the_class_is_written():
    with pytest.raises(ConfigError, match="everyone"):
        type("Open", (FeatureProvider,), {"visibility": ("owner", "everyone")})
    with pytest.raises(ConfigError, match="list"):
        type("Text", (FeatureProvider,), {"visibility": "owner"})


def test_the_guides_four_argument_question_is_answered_the_same_way():
    assert Meter().is_observable_by("MG1", 2, "gen1", 1)
    assert not Written().is_observable_by("MG1", 2, "gen1", 1)


# --- features -------------------------------------------------------------------------------


def test_a_dataclass_of_numbers_is_a_whole_feature():
    meter = Meter(1.5, -0.5)
    assert list(meter.names()) == ["p_mw", "q_mvar"]
    assert meter.vector().dtype == np.float32
    assert list(meter.vector()) == [1.5, -0.5]
    assert Meter.from_dict(meter.to_dict()) == meter
    assert (list(meter.units()), list(meter.scales())) == (["", ""], [1.0, 1.0])


def test_setting_an_unknown_field_names_it_and_sets_nothing():
    for feature in (Meter(1.0), Written()):
        before = feature.to_dict()
        name = next(iter(before))
        with pytest.raises(ValueError, match="'p_MW'"):
            feature.set_values(**{name: 9.0, "p_MW": 2.0})
        assert feature.to_dict() == before
    with pytest.raises(ValueError, match="visibility"):
        Meter().set_values(visibility=("public",))


def test_reset_returns_to_what_the_feature_was_built_with():
    meter = Meter(q_mvar=0.3)
    meter.set_values(p_mw=5, q_mvar=7)
    assert isinstance(meter.p_mw, float)
    meter.reset(p_mw=1.0)
    assert (meter.p_mw, meter.q_mvar) == (1.0, 0.3)


def test_a_feature_with_slots_is_a_feature_like_any_other():
    @dataclass(slots=True)
    class Slotted(FeatureProvider):
        soc: float = 0.5

    feature = Slotted(0.25)
    feature.set_values(soc=0.75)
    assert copy.deepcopy(feature).reset().soc == feature.reset().soc == 0.25
    assert feature_class("Slotted") is Slotted
    with pytest.raises(ValueError, match="'sok'"):
        feature.set_values(sok=1.0)


def test_a_feature_class_is_found_by_its_name():
    assert feature_class("Meter") is Meter
    with pytest.raises(ConfigError, match=r"'Metre'.*Meter"):
        feature_class("Metre")
    with pytest.raises(ConfigError, match="p_MW"):
        Meter.from_dict({"p_MW": 1.0})


def test_a_name_of_two_classes_is_ambiguous():
    for module in ("one", "two"):
        type("Twice", (FeatureProvider,), {"__module__": module, "names": lambda self: ()})
    with pytest.raises(ConfigError, match=r"one\.Twice, two\.Twice"):
        feature_class("Twice")


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("BusVoltages", "bus_voltages"),
        ("ElectricalBasePh", "electrical_base_ph"),
        ("VoltVARCurve", "volt_var_curve"),
        ("SoC", "so_c"),
    ],
)
def test_class_names_become_attribute_names(name, snake):
    assert snake_case(name) == snake


# --- state ----------------------------------------------------------------------------------


def state_of_two():
    state = FieldAgentState("gen1", upstream_id="MG1")
    state.features.append(Meter(1.0, 2.0))
    state.features.append(Written(0.9, 1.1))
    return state


def test_a_state_is_its_features_in_order():
    state = state_of_two()
    assert list(state.vector()) == pytest.approx([1.0, 2.0, 0.9, 1.1])
    assert state.names() == ["Meter.p_mw", "Meter.q_mvar", "Written.v_min", "Written.v_max"]
    assert state.meter is state.feature("Meter") is state.feature("meter")
    assert CoordinatorAgentState("MG1").vector().shape == (0,)


def test_update_feature_refuses_what_does_not_exist():
    state = state_of_two()
    state.update_feature("Meter", p_mw=3.0)
    assert state.meter.p_mw == 3.0
    with pytest.raises(ConfigError, match=r"'Meters'.*Meter, Written"):
        state.update_feature("Meters", p_mw=1.0)
    with pytest.raises(ValueError, match="'p'"):
        state.update_feature("Meter", p=1.0)
    with pytest.raises(AttributeError, match=r"metre.*meter"):
        state.metre  # noqa: B018


def test_update_feature_refuses_unknown_fields_even_where_the_feature_itself_would_not():
    class Careless(Written):
        def set_values(self, **kwargs):
            for name, value in kwargs.items():
                if hasattr(self, name):
                    setattr(self, name, value)

    state = FieldAgentState("gen1")
    state.features.append(Careless())
    with pytest.raises(ValueError, match="v_mini"):
        state.update_feature("Careless", v_mini=0.5)


def test_a_state_shows_each_asker_its_part():
    state = state_of_two()
    assert list(state.observed_by("gen1", 1)) == ["Meter", "Written"]
    assert list(state.observed_by("MG1", 2)) == ["Meter"]
    assert state.observed_by("MG10", 2) == {}
    assert state.observed_by("gen10", 1) == {}
    assert state.snapshot(5.0).observed_by("MG1", 2).keys() == {"Meter"}


def test_a_snapshot_never_changes_and_cannot_be_written_to():
    state = state_of_two()
    snapshot = state.snapshot(5.0)
    state.meter.p_mw = 99.0
    seen = snapshot.observed_by("MG1", 2)
    assert seen["Meter"][0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        seen["Meter"][0] = 3.0
    with pytest.raises(TypeError):
        seen["Meter"] = None


def test_two_features_of_one_class_need_names():
    state = state_of_two()
    state.features.append(Meter())
    with pytest.raises(ConfigError, match=r"'Meter'.*add_feature"):
        state.check()
    state.features.pop()
    state.add_feature("spare", Meter(4.0))
    state.check()
    assert state.spare.p_mw == 4.0
    assert state.names()[-1] == "spare.q_mvar"


def test_names_and_values_must_be_as_many():
    class Uneven(Written):
        def names(self):
            return ["v_min"]

    state = FieldAgentState("gen1")
    state.features.append(Uneven())
    with pytest.raises(ConfigError, match=r"Uneven.*as many names as values: 2"):
        state.check()


def test_a_state_survives_being_written_down():
    state = state_of_two()
    state.add_feature("spare", Meter(4.0))
    again = State.from_dict(state.to_dict())
    assert again.names() == state.names()
    np.testing.assert_array_equal(again.vector(), state.vector())
    assert (again.owner_id, again.owner_level, again.upstream_id) == ("gen1", 1, "MG1")


def test_reset_takes_overrides_by_feature_name():
    state = state_of_two()
    state.update_feature("Meter", p_mw=5.0, q_mvar=6.0)
    state.reset(meter={"p_mw": 3.0})
    assert (state.meter.p_mw, state.meter.q_mvar) == (3.0, 2.0)
    with pytest.raises(ConfigError, match="Metre"):
        state.reset(Metre={})


# --- observation ----------------------------------------------------------------------------


def test_an_observations_vector_is_local_then_global_in_the_order_of_filling():
    observation = Observation(
        {"b": np.array([1.0, 2.0]), "subordinates": {"z": {"f": np.array([3.0])}, "a": {"f": 4}}},
        {"price": 5.0, "on": True},
        7.0,
    )
    assert observation.vector().tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 1.0]
    assert Observation().vector().shape == (0,)


@pytest.mark.parametrize("value", ["sunny", None, object()])
def test_an_observation_of_something_else_than_numbers_says_where(value):
    with pytest.raises(ValueError, match=r"global_info\.weather"):
        Observation({}, {"weather": value}).vector()


# --- action ---------------------------------------------------------------------------------


def test_an_action_scales_between_its_bounds_and_one():
    action = Action().set_specs(dim_c=2, range=(np.array([0.0, -1.0]), np.array([10.0, 1.0])))
    action.set_values([2.5, 0.0])
    assert action.scale() == pytest.approx([-0.5, 0.0])
    assert action.unscale([0.0, 2.0]).vector().tolist() == [5.0, 1.0]
    assert action.vector().dtype == np.float32


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3))
def test_scale_undoes_unscale(x):
    action = Action().set_specs(dim_c=3, range=([-2.0, 0.5, 1.0], [2.0, 0.75, 400.0]))
    assert action.unscale(x).scale() == pytest.approx(x, abs=1e-9)


def test_values_beyond_the_bounds_are_clipped_to_them():
    action = Action().set_specs(dim_c=2)
    assert action.set_values([3.0, -0.5]).c.tolist() == [1.0, -0.5]


@pytest.mark.parametrize(
    ("values", "said"),
    [([1.0], "shape"), ([[1.0, 2.0]], "shape"), ([1.0, np.nan], "finite"), ([np.inf, 0], "finite")],
)
def test_an_action_of_the_wrong_shape_or_not_finite_is_refused(values, said):
    action = Action().set_specs(dim_c=2).set_values([0.1, 0.2])
    with pytest.raises(ValueError, match=said):
        action.set_values(values)
    assert action.c.tolist() == [0.1, 0.2]


def test_a_large_action_is_checked_as_a_small_one():
    action = Action().set_specs(dim_c=50)
    with pytest.raises(ValueError, match="finite"):
        action.set_values(np.full(50, np.nan))


@pytest.mark.parametrize("values", [[0.0, 1.5, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, -1.0]])
def test_categories_that_do_not_exist_are_refused(values):
    action = Action().set_specs(dim_c=1, dim_d=2, ncats=[3, 2])
    with pytest.raises(ValueError, match="categories"):
        action.set_values(values)
    assert action.set_values(c=0.5, d=[2, 1]).vector().tolist() == [0.5, 2.0, 1.0]
    assert action.set_values({"c": [0.25], "d": [0, 1]}).d.tolist() == [0, 1]


@pytest.mark.parametrize(
    "specs",
    [
        {"dim_c": -1},
        {"dim_c": 2, "range": ([0.0], [1.0])},
        {"dim_c": 1, "range": (1.0, 0.0)},
        {"dim_c": 1, "range": (float("nan"), 0.0)},
        {"dim_c": 1, "range": (0,)},
        {"dim_c": 1, "range": (0.0, 1.0, 2.0)},
        {"dim_c": 1, "range": 3.0},
        {"dim_c": 1, "range": ("a", "b")},
        {"dim_d": 2, "ncats": [3]},
        {"dim_d": 1, "ncats": 0},
        {"dim_d": 1},
    ],
)
def test_specs_that_do_not_fit_together_are_refused(specs):
    with pytest.raises(ConfigError, match="action"):
        Action().set_specs(**specs)


@pytest.mark.parametrize(
    "specs",
    [
        {"dim_c": 2, "range": (-2.0, 3.0)},
        {"dim_d": 2, "ncats": [3, 4]},
        {"dim_c": 1, "dim_d": 1, "ncats": 5},
    ],
)
def test_an_action_built_from_its_own_space_has_that_space(specs):
    from heron.envs import to_gym_space

    space = Action().set_specs(**specs).space
    assert Action.from_gym_space(space).space == space
    gym_space = to_gym_space(space)
    assert Action.from_gym_space(gym_space).space == space
    assert to_gym_space(gym_space) is gym_space
    drawn = space.sample(np.random.default_rng(0))
    assert space.contains(drawn)
    assert gym_space.contains(drawn)


def test_a_plain_discrete_space_is_understood_and_others_are_not():
    import gymnasium

    assert Action.from_gym_space(gymnasium.spaces.Discrete(4)).ncats == (4,)
    pair = gymnasium.spaces.Tuple((gymnasium.spaces.Box(-1, 1, (2,)), gymnasium.spaces.Discrete(3)))
    assert Action.from_gym_space(pair).size == 3
    for space in (
        gymnasium.spaces.Text(3),
        gymnasium.spaces.Box(0, 1, (2, 2)),
        gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(3),)),
    ):
        with pytest.raises(ConfigError, match="action"):
            Action.from_gym_space(space)


def test_light_spaces_tell_what_they_contain():
    box, many = Box(np.zeros(2, np.float32), np.ones(2, np.float32)), MultiDiscrete((2, 3))
    assert box.contains([0.5, 1.0])
    assert not box.contains([0.5, 1.5])
    assert not many.contains([0.0, 1.0])
    assert not many.contains([0, 3])
    assert Mixed(box, many).shape == (4,)
    assert not Mixed(box, many).contains([0.5, 1.0, 0, 0])
    assert len({box, Box(np.zeros(2, np.float32), np.ones(2, np.float32))}) == 1


# --- random streams -------------------------------------------------------------------------


def test_streams_differ_by_name_and_repeat_by_seed():
    assert stream(1, "jitter", "a").random() == stream(1, "jitter", "a").random()
    draws = {stream(s, "jitter", n).random() for s in (1, 2) for n in ("a", "b", "ab")}
    assert len(draws) == 6
    assert stream(None, "x").random() != stream(None, "x").random()
