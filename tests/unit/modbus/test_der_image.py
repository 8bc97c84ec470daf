import pytest

from heron.powergrid.device_configs import PVConfig, StorageConfig
from heron.powergrid.quantities import DeviceReading, MeterReading, Setpoint
from heron.powergrid.registers import DerTable, MeterTable, Ratings, Write
from simulator.modbus.der import DerImage
from simulator.modbus.image import RefusalError
from simulator.modbus.site import MeterImage

READING = DeviceReading(0.1, 0.0, 1.0, 0.99, 1.01, soc=0.5)


def battery() -> DerImage:
    config = {"bus": "b", "e_capacity_mwh": 2, "p_max_mw": 0.5, "p_min_mw": -0.5}
    config |= {"s_rated_mva": 0.6, "q_max_mvar": 0.2, "q_min_mvar": -0.2}
    ratings = Ratings.of(StorageConfig.model_validate(config))
    return DerImage(DerTable("ess1", ratings, Setpoint(-0.1, 0.05)), Setpoint(0.0))


def pv() -> DerImage:
    ratings = Ratings.of(PVConfig.model_validate({"bus": "b", "p_rated_mw": 0.5}))
    return DerImage(DerTable("pv1", ratings, Setpoint(0.25)), Setpoint(0.5))


def command(image: DerImage, setpoint: Setpoint, reversion_s: float | None = None) -> None:
    for write in image.table.encode_setpoint(setpoint, reversion_s):
        image.write(write.address, write.data)


def send(image: DerImage, write: Write) -> None:
    image.write(write.address, write.data)


def test_a_device_is_idle_until_it_is_commanded() -> None:
    assert battery().setpoint() == Setpoint(0.0, 0.0)
    assert pv().setpoint() == Setpoint(0.5, 0.0)
    assert battery().table.decode_setpoint(battery().words) is None


@pytest.mark.parametrize("image", [battery(), pv()], ids=["battery", "pv"])
def test_what_is_written_is_commanded_and_read_back(image: DerImage) -> None:
    asked = Setpoint(0.123456, 0.0321)
    command(image, asked)
    assert image.setpoint() == image.table.quantise(asked)
    assert image.table.decode_setpoint(image.words) == image.setpoint()


@pytest.mark.parametrize("image", [battery(), pv()], ids=["battery", "pv"])
def test_an_unrefreshed_set_point_reverts_after_its_time(image: DerImage) -> None:
    command(image, Setpoint(0.3, 0.1), reversion_s=2700)
    for _ in range(2):
        image.show(READING, 900.0)
        assert image.setpoint().p_mw == pytest.approx(0.3)
    image.show(READING, 900.0)
    safe = image.table.safe
    assert image.setpoint() == Setpoint(pytest.approx(safe.p_mw), pytest.approx(safe.q_mvar))
    assert image.table.decode_setpoint(image.words) == image.setpoint()


def test_a_write_starts_the_time_anew() -> None:
    image = battery()
    for _ in range(10):
        command(image, Setpoint(0.3, 0.1), reversion_s=1000)
        image.show(READING, 900.0)
        assert image.setpoint().p_mw == 0.3
    image.show(READING, 900.0)
    assert image.setpoint().p_mw == -0.1


def test_the_remaining_time_can_be_read() -> None:
    image = battery()
    command(image, Setpoint(0.3), reversion_s=10)
    assert image.value("704.WSetRvrtRem") == 10
    image.show(READING, 0.25)
    assert image.value("704.WSetRvrtRem") == 10
    image.show(READING, 1.0)
    assert image.value("704.WSetRvrtRem") == 9
    for _ in range(9):
        image.show(READING, 1.0)
    assert image.value("704.WSetRvrtRem") == 0


def test_each_function_has_its_own_time() -> None:
    image = battery()
    command(image, Setpoint(0.3, 0.1), reversion_s=100)
    image.show(READING, 60.0)
    send(image, image.table.encode_setpoint(Setpoint(0.3, 0.1), 100)[1])
    image.show(READING, 60.0)
    assert image.setpoint() == Setpoint(-0.1, 0.1)


def test_without_a_time_out_nothing_reverts() -> None:
    image = battery()
    command(image, Setpoint(0.3))
    image.show(READING, 1e7)
    assert image.setpoint().p_mw == 0.3


def test_small_steps_add_up_to_the_time_out() -> None:
    image = battery()
    command(image, Setpoint(0.3), reversion_s=10)
    for _ in range(99):
        image.show(READING, 0.1)
    assert image.setpoint().p_mw == 0.3
    image.show(READING, 0.1)
    assert image.setpoint().p_mw == -0.1


def test_reversion_may_switch_the_function_off() -> None:
    image = battery()
    command(image, Setpoint(0.3), reversion_s=5)
    send(image, image.registers.run({"704.WSetEnaRvrt": 0}))
    image.show(READING, 5.0)
    assert image.value("704.WSetEna") == 0
    assert image.setpoint().p_mw == 0.0


def test_the_times_run_on_while_nothing_is_measured() -> None:
    image = battery()
    command(image, Setpoint(0.3), reversion_s=5)
    image.fail("power flow diverged", 5.0)
    assert image.setpoint().p_mw == -0.1
    assert set(image.table.decode_reading(image.words).values()) == {None}
    image.show(READING, 1.0)
    assert image.table.decode_reading(image.words)["p_mw"] == pytest.approx(0.1)
    assert image.value("701.MnAlrmInfo") is None


def test_a_ceiling_from_another_master_limits_the_set_point() -> None:
    image = battery()
    command(image, Setpoint(0.4))
    send(image, image.registers.run({"704.WMaxLimPctEna": 1, "704.WMaxLimPct": 20.0}))
    assert image.setpoint().p_mw == pytest.approx(0.1)


def test_heartbeats_count_plant_seconds_and_take_the_controllers() -> None:
    image = battery()
    image.show(READING, 900.0)
    assert image.value("715.DERHb") == 900
    assert image.value("715.LocRemCtl") == 0
    send(image, image.table.encode_heartbeat(41))
    assert image.value("715.ControllerHb") == 41


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("701.W", 1.0),
        ("702.WMax", 1.0),
        ("704.WSetRvrtRem", 1),
        ("704.WSet_SF", 3),
        ("704.AntiIslEna", 1),
        ("1.DA", 2),
        ("715.DERHb", 1),
    ],
)
def test_what_the_device_does_not_let_masters_set_is_exception_2(name: str, value: float) -> None:
    image = battery()
    before = image.read(40000, 300)
    with pytest.raises(RefusalError) as refused:
        send(image, image.registers.run({name: value}))
    assert refused.value.code == 2
    assert image.read(40000, 300) == before


@pytest.mark.parametrize(
    ("name", "value"), [("704.WSetEna", 2), ("704.WSetMod", 7), ("704.VarSetMod", 5)]
)
def test_a_value_that_the_model_does_not_know_is_exception_3(name: str, value: int) -> None:
    image = battery()
    with pytest.raises(RefusalError) as refused:
        send(image, image.registers.run({name: value}))
    assert refused.value.code == 3


def test_a_device_without_reactive_power_refuses_it() -> None:
    config = {"bus": "b", "e_capacity_mwh": 2, "p_max_mw": 0.5, "p_min_mw": -0.5}
    ratings = Ratings.of(StorageConfig.model_validate(config))
    image = DerImage(DerTable("ess1", ratings, Setpoint(0.0)), Setpoint(0.0))
    with pytest.raises(RefusalError) as refused:
        send(image, image.registers.run({"704.VarSetEna": 1}))
    assert refused.value.code == 2


def test_a_measurement_beyond_its_register_is_no_value_rather_than_a_wrong_one() -> None:
    image = battery()
    image.show(DeviceReading(50.0, 0.0, 1.0, 1.0, 1.0, soc=0.5), 1.0)
    assert image.table.decode_reading(image.words)["p_mw"] is None


def test_energy_is_counted_in_both_directions() -> None:
    image = battery()
    image.show(READING, 1800.0)
    image.show(DeviceReading(-0.3, 0.06, 1.0, 0.99, 1.01, soc=0.5), 600.0)
    assert image.value("701.TotWhInj") == 50_000
    assert image.value("701.TotWhAbs") == 50_000
    assert image.value("701.TotVarhInj") == 10_000
    image.fail("power flow diverged", 600.0)
    assert image.value("701.TotWhInj") == 50_000


def test_a_microgrids_meter_counts_what_it_imports() -> None:
    image = MeterImage(MeterTable("MG1", -1, 24_900.0))
    image.show(MeterReading(-0.5, 0.0, 1.0, 1.0, 1.0), 7200.0)
    assert (image.value("213.TotWhImp"), image.value("213.TotWhExp")) == (1e6, 0.0)
