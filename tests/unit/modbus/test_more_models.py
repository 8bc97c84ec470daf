import pytest

from heron.errors import ConfigError
from heron.powergrid.device_configs import PVConfig, StorageConfig
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import DerTable, Ratings
from heron.powergrid.registers.more_models import OPTIONAL_MODELS
from simulator.modbus.der import DerImage

ALL = tuple(OPTIONAL_MODELS)
READING = DeviceReading(0.1234, -0.05, 1.01, 1.0, 1.02, soc=0.62)


def battery(models: tuple[int, ...] = ALL) -> DerImage:
    config = {"bus": "b", "e_capacity_mwh": 2, "p_max_mw": 0.5, "p_min_mw": -0.5}
    ratings = Ratings.of(StorageConfig.model_validate(config | {"s_rated_mva": 0.6}))
    return DerImage(DerTable("ess1", ratings, Setpoint(0.0), models), Setpoint(0.0))


def test_the_usual_models_keep_their_addresses() -> None:
    with_all, usual = battery(), battery(())
    for name, register in usual.registers.items():
        if not name.startswith("end."):
            assert with_all.registers[name] == register


def test_older_models_show_the_same_as_the_new_ones() -> None:
    image = battery()
    image.show(READING, 900.0)
    for watts in ("701.W", "103.W", "113.W", "802.W"):
        assert image.value(watts) == pytest.approx(123_400, abs=50)
    assert image.value("103.PhVphA") == pytest.approx(image.value("701.LNV"))
    assert image.value("713.SoC") == image.value("802.SoC") == image.value("124.ChaState") == 62.0
    assert image.value("124.ChaSt") == 3


def test_older_models_show_no_old_values_when_nothing_is_measured() -> None:
    image = battery()
    image.show(READING, 900.0)
    image.fail("power flow diverged", 900.0)
    for name in ("103.W", "113.W", "802.W", "802.SoC", "103.PhVphA"):
        assert image.value(name) is None
    assert image.value("103.St") == 7


def test_curves_are_the_standards_defaults_disabled_and_read_only() -> None:
    image = battery()
    assert [image.value(f"705.Crv[1].Pt[{i}].V") for i in (1, 2, 3, 4)] == [92, 98, 102, 108]
    assert [image.value(f"705.Crv[1].Pt[{i}].Var") for i in (1, 2, 3, 4)] == [44, 0, 0, -44]
    assert [image.value(f"{m}.Ena") for m in (705, 706, 711, 712)] == [0, 0, 0, 0]
    assert image.value("711.Ctl[1].DbOf") == 0.036


def test_the_older_ceiling_is_obeyed_and_reverts() -> None:
    config = PVConfig.model_validate({"bus": "b", "p_rated_mw": 0.5})
    table = DerTable("pv1", Ratings.of(config), Setpoint(0.5), (123,))
    image = DerImage(table, Setpoint(0.5))
    for values in (
        {"123.WMaxLimPct": 40.0},
        {"123.WMaxLimPct_RvrtTms": 60},
        {"123.WMaxLim_Ena": 1},
    ):
        write = table.registers.run(dict(values))
        image.write(write.address, write.data)
    assert image.setpoint().p_mw == pytest.approx(0.2)
    assert table.decode_setpoint(image.words) == Setpoint(pytest.approx(0.2), 0.0)
    image.show(READING, 60.0)
    assert image.value("123.WMaxLim_Ena") == 0
    assert image.setpoint().p_mw == 0.5


def test_a_device_that_stores_nothing_has_no_battery_models() -> None:
    config = PVConfig.model_validate({"bus": "b", "p_rated_mw": 0.5})
    table = DerTable("pv1", Ratings.of(config), Setpoint(0.5), ALL)
    assert set(ALL) - set(table.models) == {124, 802}


def test_models_that_cannot_be_served_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        battery((103, 64001, 707))
    assert [p.value for p in caught.value.problems] == [707, 64001]
