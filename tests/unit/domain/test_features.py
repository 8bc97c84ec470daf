"""Features: names, units and values belong together; visibility is as declared."""

from __future__ import annotations

import copy as copying
import math
import pickle
from collections.abc import Callable

import numpy as np
import pytest

from heron.core import COORDINATOR_LEVEL, FIELD_LEVEL, SYSTEM_LEVEL, FeatureProvider
from heron.errors import ConfigError
from heron.powergrid.features import (
    BusVoltages,
    ElectricalBasePh,
    InverterBasedSource,
    LineFlows,
    MarketSignal,
    NetworkMetrics,
    PhaseConnection,
    PowerLimits,
    RowFeature,
    ShuntCapacitorBlock,
    StatusBlock,
    StorageBlock,
    TapChangerPh,
    ThermalLoading,
    TimeOfDay,
    VoltVarCurve,
)

ALL = [
    ElectricalBasePh(0.1, -0.2, 1.02, 3.0, base_MVA=2.0),
    PhaseConnection.of(("a", "c")),
    InverterBasedSource(0.5, 0.3),
    PowerLimits(1.0, -1.0, 0.5, -0.5),
    StatusBlock(0.0),
    StorageBlock(0.3, 2.0, 0.9, 0.8),
    TapChangerPh(3.0, -8, 8, 0.0125),
    ThermalLoading(80.0, 1.5),
    ShuntCapacitorBlock(0.3, 1.0),
    VoltVarCurve(((0.9, 0.3), (1.1, -0.3)), 0.1),
    BusVoltages([0.98, 1.01], 0.98, 1.01),
    LineFlows([0.1], [40.0], 40.0),
    NetworkMetrics(0.1, 0.2, 0.3, -0.02, 0.03),
    MarketSignal(True, price=40.0, ahead=np.arange(24.0)),
    MarketSignal(False, price=40.0),
    TimeOfDay(0.5, 0.5, -1.0, 1.0),
]
EACH = pytest.mark.parametrize("feature", ALL, ids=lambda f: type(f).__name__)


def pickled(feature: RowFeature) -> RowFeature:
    """Return it as it comes out of a pickle."""
    again = pickle.loads(pickle.dumps(feature))  # noqa: S301 - our own
    assert isinstance(again, RowFeature)
    return again


@EACH
def test_names_units_and_scales_fit_the_vector(feature: FeatureProvider) -> None:
    n = len(feature.vector())
    assert feature.vector().dtype == np.float32
    assert len(feature.names()) == len(feature.units()) == len(feature.scales()) == n
    assert len(set(feature.names())) == n
    assert all(scale > 0 for scale in feature.scales())


@EACH
def test_plain_data_gives_the_same_feature_back(feature: FeatureProvider) -> None:
    again = type(feature).from_dict(feature.to_dict())
    assert again.to_dict() == feature.to_dict()
    assert np.array_equal(again.vector(), feature.vector())


@EACH
def test_reset_returns_to_the_values_at_construction(feature: FeatureProvider) -> None:
    fresh = type(feature).from_dict(feature.to_dict())
    before = fresh.to_dict()
    name = type(feature).fields[0].name  # type: ignore[attr-defined]
    if name != "max_loading_norm":
        fresh.set_values(**{name: 0.77})
    assert fresh.reset().to_dict() == before


@pytest.mark.parametrize(
    "feature", [f for f in ALL if isinstance(f, RowFeature)], ids=lambda f: type(f).__name__
)
def test_whoever_holds_a_features_row_goes_on_seeing_what_is_in_it(feature: RowFeature) -> None:
    feature = type(feature).from_dict(feature.to_dict())
    held, first = feature.cell, feature.row
    feature.row = (*(x + 1.0 for x in first),)
    assert held.numbers == feature.row != first
    feature.reset()
    assert held is feature.cell
    assert held.numbers == feature.row == first
    with pytest.raises(ValueError, match="has no field 'cell'"):
        feature.set_values(cell=0.0)


@pytest.mark.parametrize("copy", [copying.copy, copying.deepcopy, pickled])
def test_a_copy_of_a_feature_goes_its_own_way(copy: Callable[[RowFeature], RowFeature]) -> None:
    feature = StorageBlock(0.3, 2.0, 0.9, 0.8)
    copied = copy(feature)
    assert copied.to_dict() == feature.to_dict()
    feature.soc = 0.4
    assert copied.row == (0.3, 2.0, 0.6)
    assert copied.reset().row == (0.3, 2.0, 0.6)


@EACH
def test_an_unknown_field_is_refused(feature: FeatureProvider) -> None:
    with pytest.raises(ValueError, match="no_such_field"):
        feature.set_values(no_such_field=1.0)
    with pytest.raises(ConfigError, match="no_such_field"):
        type(feature).from_dict({"no_such_field": 1.0})


def test_vectors_are_the_guides() -> None:
    assert ElectricalBasePh(1.0, 2.0, 0.99, 5.0).names() == ["p_MW", "q_MVAr", "v_pu", "va_deg"]
    assert ElectricalBasePh(1.0, 2.0, 0.99, 5.0).vector().tolist() == pytest.approx(
        [1.0, 2.0, 0.99, 5.0]
    )
    assert StorageBlock(0.5, 4.0).names() == ["soc", "e_capacity_MWh", "e_stored_MWh"]
    assert StorageBlock(0.5, 4.0).vector().tolist() == [0.5, 4.0, 2.0]
    assert BusVoltages().names() == ["v_min", "v_max"]
    assert LineFlows(max_loading=50.0).names() == ["max_loading_norm"]
    assert LineFlows(max_loading=50.0).vector().tolist() == [0.5]


def test_stored_energy_and_state_of_charge_never_disagree() -> None:
    store = StorageBlock(0.5, 4.0)
    store.set_values(soc=0.25)
    assert store.e_stored_MWh == 1.0
    store.e_stored_MWh = 3.0
    assert store.soc == 0.75
    assert store.reset(soc=0.1).e_stored_MWh == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("feature", "owner_level", "seen_by_owner", "seen_above", "seen_by_system"),
    [
        (ElectricalBasePh(), FIELD_LEVEL, True, True, True),
        (StorageBlock(), FIELD_LEVEL, True, True, False),
        (PowerLimits(), FIELD_LEVEL, True, True, False),
        (BusVoltages(), COORDINATOR_LEVEL, True, True, True),
        (LineFlows(), COORDINATOR_LEVEL, True, True, True),
        (TimeOfDay(), COORDINATOR_LEVEL, True, True, True),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, FeatureProvider) else str(x),
)
def test_who_sees_what(
    feature: FeatureProvider,
    owner_level: int,
    seen_by_owner: bool,
    seen_above: bool,
    seen_by_system: bool,
) -> None:
    def sees(who: str, level: int) -> bool:
        return feature.is_observable_by(who, level, "owner", owner_level)

    assert sees("owner", owner_level) is seen_by_owner
    assert sees("above", owner_level + 1) is seen_above
    assert sees("dso", SYSTEM_LEVEL) is seen_by_system


def test_a_stranger_of_the_same_level_sees_nothing_of_a_device() -> None:
    for feature in (ElectricalBasePh(), StorageBlock(), PowerLimits(), StatusBlock()):
        assert not feature.is_observable_by("gen10", FIELD_LEVEL, "gen1", FIELD_LEVEL)


def test_phases_are_flags() -> None:
    assert PhaseConnection.of(("a", "c")).vector().tolist() == [1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    "build",
    [
        lambda: PowerLimits(p_min_MW=1.0, p_max_MW=0.0),
        lambda: PowerLimits(q_min_MVAr=1.0, q_max_MVAr=0.0),
        lambda: StorageBlock(e_capacity_MWh=0.0),
        lambda: InverterBasedSource(p_rated_MW=-1.0),
        lambda: TapChangerPh(tap_position=17),
        lambda: VoltVarCurve(((1.0, 0.0),)),
        lambda: VoltVarCurve(((1.0, 0.0), (1.0, 0.1))),
    ],
)
def test_impossible_values_are_refused(build: object) -> None:
    with pytest.raises(ValueError, match=r"expected|cross"):
        build()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("v", "q"),
    [
        (0.8, 0.44),
        (0.92, 0.44),
        (0.95, 0.22),
        (1.0, 0.0),
        (1.05, -0.22),
        (1.08, -0.44),
        (1.2, -0.44),
    ],
)
def test_the_volt_var_curve_is_ieee_1547_category_b(v: float, q: float) -> None:
    curve = VoltVarCurve()
    assert curve.respond(v) == pytest.approx(q)
    assert curve.q_pu == curve.respond(v)


def test_a_capacitor_follows_the_square_of_the_voltage_and_its_switch() -> None:
    assert ShuntCapacitorBlock(0.3, 1.0).q_mvar(0.9) == pytest.approx(0.243)
    assert ShuntCapacitorBlock(0.3, 0.0).q_mvar(0.9) == 0.0


def test_taps_change_the_ratio() -> None:
    assert TapChangerPh(8).ratio == pytest.approx(1.05)
    assert TapChangerPh().ratio == 1.0


# Market and time.

RISING = tuple(float(i) for i in range(96))


def test_the_signal_places_the_price_in_its_day() -> None:
    market = MarketSignal()
    market.update(6 * 3600.0, 999.0, RISING)
    assert market.price == 24.0
    assert market.day_mean == 47.5
    assert market.relative == -23.5
    assert market.rank == pytest.approx(24 / 95)


def test_prices_ahead_are_rolled_to_now_and_end_with_the_day() -> None:
    market = MarketSignal()
    market.update(22 * 3600.0 + 900.0, 0.0, RISING)
    # 89..92 make the next hour, 93..95 are what the second still has of the day.
    assert market.ahead[0] == pytest.approx(np.mean([89, 90, 91, 92]) - 47.5)
    assert market.ahead[1] == pytest.approx((93 + 94 + 95 - 3 * 47.5) / 4)
    assert not any(market.ahead[2:])
    assert market.names()[4:6] == ["ahead_00", "ahead_01"]


def test_the_signal_moves_with_time_and_with_the_day() -> None:
    """Time stood still in an earlier framework: the hour index stayed at 0."""
    market = MarketSignal()
    prices = []
    for step in range(96):
        market.update(step * 900.0, 0.0, RISING)
        prices.append(market.price)
    assert prices == list(RISING)
    market.update(86_400.0, 0.0, tuple(reversed(RISING)))
    assert market.price == 95.0
    assert market.rank == 1.0


def test_hourly_prices_are_understood() -> None:
    market = MarketSignal()
    market.update(3.5 * 3600.0, 0.0, tuple(float(h) for h in range(24)))
    assert market.price == 3.0
    assert market.ahead[1] == pytest.approx(4.0 - 11.5)


def test_a_field_of_a_row_can_be_set_by_its_name() -> None:
    market = MarketSignal()
    market.update(6 * 3600.0, 0.0, RISING)
    shared = market.row
    market.rank = 0.25
    market.set_values(price=30.0)
    assert market.values()[:4] == (30.0, 47.5, -23.5, 0.25)
    assert shared[3] == pytest.approx(24 / 95)
    assert market.vector().shape == (28,)
    market.update(6 * 3600.0, 0.0, RISING)
    assert market.row == shared


@pytest.mark.parametrize("forecast", [True, False])
def test_without_day_ahead_prices_only_the_price_is_known(forecast: bool) -> None:
    market = MarketSignal(forecast=forecast)
    market.update(0.0, 44.0, () if forecast else RISING)
    assert market.price == 44.0
    assert market.relative == 0.0
    assert len(market.vector()) == (28 if forecast else 1)
    assert market.vector()[0] == 44.0


@pytest.mark.parametrize(
    ("hour", "sin", "cos"), [(0, 0, 1), (6, 1, 0), (12, 0, -1), (18, -1, 0), (24, 0, 1)]
)
def test_the_time_of_day_is_an_angle(hour: float, sin: float, cos: float) -> None:
    time = TimeOfDay()
    time.update(5 * 86_400.0 + hour * 3600.0)
    assert time.day_sin == pytest.approx(sin, abs=1e-9)
    assert time.day_cos == pytest.approx(cos, abs=1e-9)


def test_the_data_year_begins_on_a_friday() -> None:
    weekend = []
    for day in range(9):
        time = TimeOfDay()
        time.update(day * 86_400.0 + 3600.0)
        weekend.append(time.weekend)
    assert weekend == [0, 1, 1, 0, 0, 0, 0, 0, 1]


def test_seasons_turn() -> None:
    time = TimeOfDay()
    time.update(356 * 86_400.0)
    assert time.season == pytest.approx(1.0, abs=1e-3)
    time.update(173 * 86_400.0)
    assert time.season == pytest.approx(-1.0, abs=1e-3)
    assert math.isfinite(time.season)
