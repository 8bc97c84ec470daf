"""Third parties against the emulator: they were written by others, from the same specifications."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
import sunspec2.modbus.client as sunspec_client
from pymodbus.client import AsyncModbusTcpClient

from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers.more_models import OPTIONAL_MODELS
from heron.powergrid.setups import read_setup
from simulator import Plant
from simulator.modbus.server import ModbusServer
from simulator.pace import Pace
from simulator.runtime import RunOptions, Simulator


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


@pytest_asyncio.fixture
async def simulator() -> AsyncIterator[Simulator]:
    options = RunOptions(
        pace=Pace.parse("max"), steps=1, step_s=900.0, start_s=190.5 * 86400.0, port=0
    )
    running = Simulator(Plant(read_setup("ieee34_ieee13")), options)
    ready = asyncio.Event()
    task = asyncio.create_task(running.run(ready.set))
    await ready.wait()
    await until(lambda: running.counters.steps == 1)
    yield running
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest_asyncio.fixture
async def pymodbus(simulator: Simulator) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient("127.0.0.1", port=simulator.server.ports[0], timeout=2, retries=0)
    assert await client.connect()
    yield client
    client.close()


def scanned(port: int, unit_id: int) -> sunspec_client.SunSpecModbusClientDeviceTCP:
    device = sunspec_client.SunSpecModbusClientDeviceTCP(
        slave_id=unit_id, ipaddr="127.0.0.1", ipport=port, timeout=5
    )
    device.scan()
    return device


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("gen1", [1, 701, 702, 704, 715]),
        ("ess1", [1, 701, 702, 704, 713, 715]),
        ("pv1", [1, 701, 702, 704, 715]),
        ("head", [1, 213]),
        ("MG2", [1, 213]),
    ],
)
async def test_pysunspec2_scans_every_unit_without_an_error(
    simulator: Simulator, name: str, models: list[int]
) -> None:
    plan = simulator.plan
    unit = plan.devices.get(name) or plan.meters[name]
    device = await asyncio.to_thread(scanned, simulator.server.ports[0], unit.unit_id)
    assert [m.model_id for m in device.model_list] == models
    assert [m.error_info for m in device.model_list if m.error_info] == []
    assert device.base_addr == 40000
    assert device.common[0].SN.value == name


async def test_pysunspec2_scans_the_models_of_the_installed_base_and_the_curves() -> None:
    options = RunOptions(
        pace=Pace.parse("max"), steps=1, step_s=900.0, port=0, models=tuple(OPTIONAL_MODELS)
    )
    running = Simulator(Plant(read_setup("ieee34_ieee13")), options)
    async with running.server:
        port, unit = running.server.ports[0], running.plan.devices["ess1"]
        device = await asyncio.to_thread(scanned, port, unit.unit_id)
    models = [m.model_id for m in device.model_list]
    assert models == [1, 701, 702, 704, 713, 715, *sorted(OPTIONAL_MODELS)]
    assert [m.error_info for m in device.model_list if m.error_info] == []
    curve = device.DERVoltVar[0].Crv[0]
    assert [(p.V.cvalue, p.Var.cvalue) for p in curve.Pt] == [
        (92.0, 44.0),
        (98.0, 0.0),
        (102.0, 0.0),
        (108.0, -44.0),
    ]
    assert device.models[802][0].SoC.cvalue == 50.0
    assert device.models[160][0].N.value == 1


async def test_pysunspec2_reads_what_the_plant_measured(simulator: Simulator) -> None:
    unit = simulator.plan.devices["ess1"]
    reading = simulator.plant.measurements.devices["ess1"]
    device = await asyncio.to_thread(scanned, simulator.server.ports[0], unit.unit_id)
    measured = device.DERMeasureAC[0]
    assert measured.W.cvalue == pytest.approx(reading.p_mw * 1e6, abs=50.1)
    assert measured.Var.cvalue == pytest.approx(reading.q_mvar * 1e6, abs=50.1)
    volts = device.DERCapacity[0].VNom.cvalue
    assert measured.LLV.cvalue / volts == pytest.approx(reading.v_pu, abs=5e-5)
    assert measured.Hz.cvalue == pytest.approx(60.0)
    assert device.DERStorageCapacity[0].SoC.cvalue == pytest.approx(50.0, abs=0.01)
    assert device.DERStorageCapacity[0].WHRtg.cvalue == pytest.approx(2e6)
    assert device.DERCapacity[0].WMaxRtg.cvalue == pytest.approx(0.5e6)


async def test_pysunspec2_reads_a_meter(simulator: Simulator) -> None:
    unit = simulator.plan.meters["MG1"]
    reading = simulator.plant.measurements.meters["MG1"]
    device = await asyncio.to_thread(scanned, simulator.server.ports[0], unit.unit_id)
    meter = device.models[213][0]
    assert meter.W.cvalue == pytest.approx(-reading.p_mw * 1e6, rel=1e-6)
    assert meter.PhV.cvalue == pytest.approx(reading.v_pu * 24_900 / 3**0.5, rel=1e-6)


async def test_pysunspec2_commands_a_battery(simulator: Simulator) -> None:
    unit = simulator.plan.devices["ess1"]

    def command() -> tuple[float, int]:
        device = scanned(simulator.server.ports[0], unit.unit_id)
        device.connect()
        control = device.DERCtlAC[0]
        control.WSetEna.value = 1
        control.WSetMod.value = 1
        control.WSet.cvalue = -123_456
        control.VarSetEna.value = 1
        control.VarSetMod.value = 4
        control.VarSet.cvalue = 20_000
        control.write()
        control.WSetRvrtTms.value = 60
        control.write()
        control.read()
        device.disconnect()
        return control.WSet.cvalue, control.WSetRvrtRem.value

    watts, remaining = await asyncio.to_thread(command)
    assert watts == -123_456
    assert remaining == 60
    assert simulator.site.setpoints()["ess1"] == Setpoint(-0.123456, 0.02)


async def test_pysunspec2_curtails_a_pv_inverter(simulator: Simulator) -> None:
    unit = simulator.plan.devices["pv1"]

    def command() -> None:
        device = scanned(simulator.server.ports[0], unit.unit_id)
        device.connect()
        control = device.DERCtlAC[0]
        control.WMaxLimPctEna.value = 1
        control.WMaxLimPct.cvalue = 62.5
        control.write()
        device.disconnect()

    await asyncio.to_thread(command)
    assert simulator.site.setpoints()["pv1"].p_mw == pytest.approx(0.3125)


async def test_pysunspec2_cannot_write_a_nameplate(simulator: Simulator) -> None:
    unit = simulator.plan.devices["pv1"]

    def command() -> None:
        device = scanned(simulator.server.ports[0], unit.unit_id)
        device.connect()
        try:
            device.common[0].DA.value = 7
            device.common[0].write()
        finally:
            device.disconnect()

    with pytest.raises(Exception, match=r"[Ee]xception 2|exception"):
        await asyncio.to_thread(command)


async def test_pymodbus_reads_with_every_read_function(pymodbus: AsyncModbusTcpClient) -> None:
    for read in (pymodbus.read_holding_registers, pymodbus.read_input_registers):
        reply = await read(40000, count=2, device_id=1)
        assert reply.registers == [0x5375, 0x6E53]
    discretes = await pymodbus.read_discrete_inputs(0, count=2, device_id=247)
    assert discretes.bits[:2] == [True, False]
    coils = await pymodbus.read_coils(0, count=1, device_id=247)
    assert coils.bits[0] is False


async def test_pymodbus_writes_with_every_register_function(
    simulator: Simulator, pymodbus: AsyncModbusTcpClient
) -> None:
    table = simulator.plan.devices["ess1"].table
    enable = table.registers["704.WSetEna"].address
    watts = table.registers["704.WSet"].address
    assert not (await pymodbus.write_register(enable, 1, device_id=2)).isError()
    assert not (await pymodbus.write_registers(watts, [0, 50_000], device_id=2)).isError()
    assert simulator.site.setpoints()["ess1"].p_mw == 0.05
    masked = await pymodbus.mask_write_register(
        address=enable, and_mask=0xFFFE, or_mask=0, device_id=2
    )
    assert not masked.isError()
    assert simulator.site.setpoints()["ess1"].p_mw == 0.0
    both = await pymodbus.readwrite_registers(
        read_address=watts, read_count=2, write_address=enable, values=[1], device_id=2
    )
    assert both.registers == [0, 50_000]
    assert simulator.site.setpoints()["ess1"].p_mw == 0.05


@pytest.mark.parametrize(
    ("address", "count", "unit_id", "code"),
    [(39_999, 1, 1, 2), (40_000, 125, 99, 0x0B), (40_360, 100, 1, 2)],
)
async def test_pymodbus_understands_our_refusals(
    pymodbus: AsyncModbusTcpClient, address: int, count: int, unit_id: int, code: int
) -> None:
    reply = await pymodbus.read_holding_registers(address, count=count, device_id=unit_id)
    assert reply.isError()
    assert reply.exception_code == code


async def test_pymodbus_identifies_a_device(pymodbus: AsyncModbusTcpClient) -> None:
    reply = await pymodbus.read_device_information(read_code=2, object_id=0, device_id=2)
    assert reply.information == {0: b"HERON-HIL", 1: b"Emulated DER", 2: b"1", 4: b"ess1"}


async def test_pymodbus_refused_writes_leave_the_device_as_it_was(
    simulator: Simulator, pymodbus: AsyncModbusTcpClient
) -> None:
    table = simulator.plan.devices["ess1"].table
    start = table.registers["704.WSetRvrtTms"].address  # the next one is read-only
    before = simulator.site.devices["ess1"].read(start, 4)
    reply = await pymodbus.write_registers(start, [0, 9, 0, 9], device_id=2)
    assert reply.exception_code == 2
    assert simulator.site.devices["ess1"].read(start, 4) == before


async def test_a_snapshot_is_never_torn_between_units_and_points(simulator: Simulator) -> None:
    """Reads in one segment are answered from one instant, whatever the plant does."""
    images = simulator.site.units
    async with ModbusServer(images, port=0) as server:
        client = AsyncModbusTcpClient("127.0.0.1", port=server.ports[0], timeout=2, retries=0)
        assert await client.connect()
        table = simulator.plan.devices["gen1"].table
        block = table.telemetry[0]
        for power in range(1, 200):
            image = simulator.site.devices["gen1"]
            reading = simulator.plant.measurements.devices["gen1"]
            values = table.reading_values(reading) | {
                "701.W": power * 100.0,
                "701.Var": power * 100.0,
                "701.VA": power * 100.0,
            }
            image.publish(values)
            reply = await client.read_holding_registers(
                block.address, count=block.count, device_id=1
            )
            at = table.registers["701.W"].address - block.address
            assert len(set(reply.registers[at : at + 3])) == 1
        client.close()
