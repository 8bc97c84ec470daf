import pytest

from heron.errors import ConfigError
from heron.powergrid.quantities import MeterReading
from heron.powergrid.registers import MeterTable, Words, site_plan
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.models import SetupConfig


@pytest.fixture(scope="module")
def config() -> SetupConfig:
    return read_setup("ieee34_ieee13").config


def with_devices(config: SetupConfig, n: int, name: str = "pv") -> SetupConfig:
    first = config.microgrid_configs[0]
    entry = first.devices[-1]
    devices = tuple(entry.model_copy(update={"name": f"{name}{i}"}) for i in range(n))
    return config.model_copy(
        update={"microgrid_configs": (first.model_copy(update={"devices": devices}),)}
    )


def test_units_follow_the_setup(config: SetupConfig) -> None:
    plan = site_plan(config)
    assert list(plan.devices) == list(config.device_ids)
    assert [u.unit_id for u in plan.devices.values()] == list(range(1, 8))
    assert {n: u.unit_id for n, u in plan.meters.items()} == {
        "head": 200,
        "MG1": 201,
        "MG2": 202,
        "MG3": 203,
    }
    assert plan.clock.unit_id == 247
    assert plan.ports == 1
    assert len({(u.port_offset, u.unit_id) for u in plan}) == 12


def test_the_reversion_time_is_three_control_intervals_unless_given(config: SetupConfig) -> None:
    assert site_plan(config).devices["gen1"].reversion_s == 2700.0


def test_what_does_not_fit_247_units_goes_to_the_next_port(config: SetupConfig) -> None:
    plan = site_plan(with_devices(config, 1000))
    assert plan.ports == 6
    places = {(u.port_offset, u.unit_id) for u in plan}
    assert len(places) == 1000 + 2 + 1
    assert plan.devices["pv199"].unit_id == 1
    assert plan.devices["pv199"].port_offset == 1


def test_a_device_may_not_be_called_as_a_meter(config: SetupConfig) -> None:
    first = config.microgrid_configs[0]
    head = first.devices[0].model_copy(update={"name": "head"})
    microgrid = first.model_copy(update={"devices": (head,)})
    with pytest.raises(ConfigError, match="name of a meter"):
        site_plan(config.model_copy(update={"microgrid_configs": (microgrid,)}))


def test_a_microgrids_meter_counts_imports_in_its_registers_and_exports_with_us() -> None:
    reading = MeterReading(-0.25, 0.1, 1.01, 1.0, 1.02)
    values = MeterTable("MG1", -1, 24_900.0).reading_values(reading)
    assert values["213.W"] == 250_000.0
    head = MeterTable("head", 1, 24_900.0)
    assert head.reading_values(reading)["213.W"] == -250_000.0


@pytest.mark.parametrize("sign", [1, -1])
def test_a_meters_reading_survives_within_its_resolution(sign: int) -> None:
    table = MeterTable("m", sign, 24_900.0)
    reading = MeterReading(-0.2512345, 0.0987654, 1.0123, 1.0011, 1.0223)
    words = Words(
        (table.registers[n].address, table.registers[n].encode(v))
        for n, v in table.reading_values(reading).items()
    )
    points = table.decode_reading(words)
    for name in ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu"):
        value = points[name]
        assert value is not None
        assert abs(value - getattr(reading, name)) <= table.resolution(name)
    failed = Words(
        (table.registers[n].address, table.registers[n].encode(v))
        for n, v in table.failed_values("x").items()
    )
    assert set(table.decode_reading(failed).values()) == {None}


def test_a_meter_shows_the_same_in_integers_where_that_is_asked_for() -> None:
    plan = site_plan(read_setup("ieee34_ieee13").config, (203, 705))
    table = plan.meters["MG1"].table
    assert [m.model_id for m in table.layout.models] == [1, 213, 203]
    assert 203 not in [m.model_id for m in plan.devices["pv1"].table.layout.models]
    reading = MeterReading(-0.2512, 0.0987, 1.0123, 1.0011, 1.0223)
    values = table.reading_values(reading) | table.energy_values(1.5e9, 2.5e6)
    words = Words(
        (table.registers[n].address, table.registers[n].encode(v)) for n, v in values.items()
    )
    number = table.registers.number
    for name in ("W", "VAR", "VA", "A", "PhV", "PhVphA", "PhVphC", "PPV", "Hz", "TotWhImp"):
        step = table.registers[f"203.{name}"].resolution
        assert number(words, f"203.{name}") == pytest.approx(
            number(words, f"213.{name}"), abs=step / 2 + 1e-3
        )
    assert number(words, "203.PF") == pytest.approx(100.0 * number(words, "213.PF"), abs=0.01)
    failed = table.failed_values("x")
    assert failed["203.W"] is None
    assert MeterTable("m", 1, 24_900.0).layout.models[-1].model_id == 213
