import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heron.powergrid.device_configs import GeneratorConfig, PVConfig, StorageConfig
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import DerTable, Ratings, Words

BATTERY = DerTable(
    "ess1",
    Ratings.of(
        StorageConfig.model_validate(
            {"bus": "b", "e_capacity_mwh": 2, "p_max_mw": 0.5, "p_min_mw": -0.5}
            | {"s_rated_mva": 0.6, "q_max_mvar": 0.2, "q_min_mvar": -0.2}
        )
    ),
    safe=Setpoint(0.0),
)
PV = DerTable(
    "pv1",
    Ratings.of(PVConfig.model_validate({"bus": "b", "p_rated_mw": 0.5})),
    safe=Setpoint(0.5),
)
GENERATOR = DerTable(
    "gen1",
    Ratings.of(
        GeneratorConfig.model_validate(
            {"bus": "b", "p_max_mw": 1.0, "p_min_mw": 0.15, "q_max_mvar": 0, "q_min_mvar": 0}
        )
    ),
    safe=Setpoint(0.15),
)
READING = DeviceReading(0.1234, -0.0567, 1.012, 1.001, 1.021, soc=0.6543)


def shown(table: DerTable, reading: DeviceReading) -> Words:
    registers = table.registers
    return Words(
        (registers[name].address, registers[name].encode(value))
        for name, value in table.reading_values(reading).items()
    )


def held(table: DerTable, setpoint: Setpoint, reversion_s: float | None = None) -> Words:
    return Words((w.address, w.data) for w in table.encode_setpoint(setpoint, reversion_s))


def test_one_sweep_of_two_reads_holds_the_reading_and_the_set_point() -> None:
    assert len(BATTERY.sweep) == 2
    asked = {a for b in BATTERY.sweep for a in range(b.address, b.end)}
    wanted = {a for b in (*BATTERY.telemetry, *BATTERY.controls) for a in range(b.address, b.end)}
    assert wanted <= asked
    assert all(block.count <= 125 for block in BATTERY.sweep)


def test_a_reading_survives_within_the_stated_resolution() -> None:
    points = BATTERY.decode_reading(shown(BATTERY, READING))
    for name in ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc"):
        value = points[name]
        assert value is not None
        error = abs(value - getattr(READING, name))
        assert error <= 0.5001 * BATTERY.resolution(name), name
    assert points["connected"] == 1.0


def test_resolutions_are_fine_enough_for_parity() -> None:
    assert BATTERY.resolution("p_mw") <= 1e-4
    assert BATTERY.resolution("q_mvar") <= 1e-4
    assert BATTERY.resolution("v_pu") <= 5e-5
    assert BATTERY.resolution("soc") <= 1.0001e-4
    assert BATTERY.resolution("p_set") <= 1e-6
    assert PV.resolution("p_set") <= 1e-4


@given(
    p=st.floats(-0.6, 0.6),
    q=st.floats(-0.3, 0.3),
    low=st.floats(0.8, 1.0),
    spread=st.floats(0.0, 0.2),
    part=st.floats(0.34, 0.66),
)
def test_any_reading_in_range_survives(
    p: float, q: float, low: float, spread: float, part: float
) -> None:
    high = low + spread
    mean = low + part * spread
    reading = DeviceReading(p, q, mean, low, high, soc=0.5)
    points = BATTERY.decode_reading(shown(BATTERY, reading))
    for name in ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu"):
        value = points[name]
        assert value is not None
        assert abs(value - getattr(reading, name)) <= 0.5001 * BATTERY.resolution(name)


@pytest.mark.parametrize("phases", [("a",), ("b", "c")])
def test_a_device_on_fewer_phases_shows_only_those(phases: tuple[str, ...]) -> None:
    table = DerTable("x", replace(BATTERY.ratings, phases=phases), Setpoint(0.0))
    mean = (READING.v_min_pu + READING.v_max_pu) / 2
    reading = replace(READING, v_pu=mean)
    values = table.reading_values(reading)
    expected = {"701.VL1"} if phases == ("a",) else {"701.VL2", "701.VL3"}
    assert {n for n in values if n in ("701.VL1", "701.VL2", "701.VL3")} == expected
    points = table.decode_reading(shown(table, reading))
    v_min, v_max = points["v_min_pu"], points["v_max_pu"]
    assert v_min is not None
    assert v_max is not None
    if phases == ("a",):
        assert v_min == v_max
    else:
        assert v_max - v_min == pytest.approx(0.02, abs=1e-4)


def test_a_device_that_cannot_measure_gives_no_values() -> None:
    registers = BATTERY.registers
    words = Words(
        (registers[name].address, registers[name].encode(value))
        for name, value in BATTERY.failed_values("power flow diverged").items()
    )
    points = BATTERY.decode_reading(words)
    assert points.keys() == BATTERY.decode_reading(shown(BATTERY, READING)).keys()
    assert all(value is None for value in points.values())
    assert registers.read(words, "701.MnAlrmInfo") == "power flow diverged"


def test_a_set_point_in_watts_is_held_to_one_watt() -> None:
    setpoint = Setpoint(-0.1234567, 0.0765432)
    quantised = BATTERY.quantise(setpoint)
    assert quantised.p_mw == pytest.approx(-0.123457, abs=1e-12)
    assert quantised.q_mvar == pytest.approx(0.076543, abs=1e-12)
    assert BATTERY.quantise(quantised) == quantised


def test_a_ceiling_is_held_to_a_hundredth_of_a_per_cent() -> None:
    setpoint = PV.quantise(Setpoint(0.123456))
    assert setpoint.p_mw == pytest.approx(0.12345, abs=1e-9)
    assert PV.quantise(setpoint) == setpoint


def test_reversion_is_written_with_the_set_point_in_the_same_request() -> None:
    (write, _) = BATTERY.encode_setpoint(Setpoint(0.2, 0.0), 2700.2)
    words = Words([(write.address, write.data)])
    number = BATTERY.registers.number
    assert number(words, "704.WSetRvrtTms") == 2701
    assert number(words, "704.WSetEnaRvrt") == 1
    assert number(words, "704.WSetRvrt") == 0.0
    assert number(words, "704.WSetPct") is None


def test_without_reversion_the_time_out_is_zero() -> None:
    assert PV.registers.number(held(PV, Setpoint(0.1)), "704.WMaxLimPctRvrtTms") == 0


def test_a_device_without_reactive_power_gets_one_write() -> None:
    assert len(GENERATOR.encode_setpoint(Setpoint(0.5, 0.1))) == 1
    assert GENERATOR.quantise(Setpoint(0.5, 0.1)) == Setpoint(0.5, 0.0)


def test_nothing_is_in_force_while_the_functions_are_off() -> None:
    registers = BATTERY.registers
    words = Words([(registers["704.WSetEna"].address, b"\0\0")])
    assert BATTERY.decode_setpoint(words) is None


def test_the_lower_of_ceiling_and_set_point_counts() -> None:
    words = held(BATTERY, Setpoint(0.4, 0.1))
    ceiling = BATTERY.registers.run({"704.WMaxLimPctEna": 1, "704.WMaxLimPct": 50.0})
    words.add(ceiling.address, ceiling.data)
    assert BATTERY.decode_setpoint(words) == Setpoint(0.25, 0.1)


def test_percentages_are_understood_too() -> None:
    run = BATTERY.registers.run({"704.WSetEna": 1, "704.WSetMod": 0, "704.WSet": None})
    percent = BATTERY.registers.run({"704.WSetPct": -40.0})
    reactive = BATTERY.registers.run({"704.VarSetEna": 1, "704.VarSetMod": 1})
    var = BATTERY.registers.run({"704.VarSetPct": 50.0})
    words = Words((w.address, w.data) for w in (run, percent, reactive, var))
    setpoint = BATTERY.decode_setpoint(words)
    assert setpoint == Setpoint(pytest.approx(-0.2), pytest.approx(0.1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e9])
def test_a_set_point_that_no_register_can_hold_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match=r"finite|fit"):
        BATTERY.encode_setpoint(Setpoint(bad))


def test_large_plants_get_coarser_registers_and_say_so() -> None:
    ratings = Ratings((0.0, 100.0), (-30.0, 30.0), 110.0, None, ("a", "b", "c"), False)
    table = DerTable("big", ratings, Setpoint(0.0))
    assert table.resolution("p_mw") == pytest.approx(0.01)
    reading = DeviceReading(99.996, 12.0, 1.0, 1.0, 1.0)
    value = table.decode_reading(shown(table, reading))["p_mw"]
    assert value == pytest.approx(99.996, abs=0.005)


def test_an_unknown_point_has_no_resolution() -> None:
    with pytest.raises(KeyError):
        GENERATOR.resolution("soc")
