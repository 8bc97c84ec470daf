"""An emulated device with a custom map, read and commanded by the edge's own link."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.links.connection import ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.timing import PlantTime
from heron.errors import ConfigError, DeviceRejected
from heron.powergrid.device_configs import StorageConfig
from heron.powergrid.envelope import admit
from heron.powergrid.link import Quality, WriteStatus
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import MapTable, parse_map
from heron.powergrid.registers.table import Space
from simulator.cli import _options, _parser
from simulator.modbus.mapped import MapImage
from simulator.modbus.server import ModbusServer

READING = DeviceReading(-0.125, 0.05, 1.02, 1.01, 1.03, soc=0.625)
SAFE, IDLE = Setpoint(0.1, 0.02), Setpoint(0.0)

VENDOR: dict[str, Any] = {
    "name": "Vendor X",
    "base": 1,
    "order": "CDAB",
    "points": {
        "p_mw": {"address": 11, "type": "int32", "scale": 1e-6, "sign": -1, "space": "input"},
        "q_mvar": {"address": 13, "type": "float32", "space": "input"},
        "v_pu": {"address": 16, "scale": 1e-4, "space": "input"},
        "soc": {"address": 17, "scale_factor": "soc_exponent", "scale": 0.01, "space": "input"},
        "soc_exponent": {"address": 18, "type": "sunssf", "space": "input"},
        "connected": {"address": 4, "space": "discrete", "type": "bit"},
        "temperature_c": {"address": 20, "type": "int16", "space": "input", "priority": "high"},
        "p_set_mw": {"address": 101, "type": "int32", "scale": 1e-6, "sign": -1, "access": "RW"},
        "q_set_mvar": {"address": 103, "type": "float32", "access": "RW"},
        "reversion_s": {"address": 106, "access": "RW"},
        "enable": {"address": 2, "space": "coil", "type": "bit", "access": "RW"},
        "remote": {"address": 3, "space": "coil", "type": "bit", "access": "RW", "constant": 1},
        "heartbeat": {"address": 110, "access": "RW"},
    },
}
PLAIN: dict[str, Any] = {
    "name": "Plain",
    "points": {
        "p_mw": {"address": 0, "type": "int16", "scale": 0.001},
        "connected": {"address": 1, "type": "bitfield16", "bits": [3, 1]},
        "soc": {"address": 1, "type": "bitfield16", "bits": [4, 7], "scale": 0.01},
        "p_set_mw": {"address": 2, "type": "int16", "scale": 0.001, "access": "RW"},
        "reversion_s": {"address": 3, "access": "RW"},
        "p_reversion_mw": {"address": 4, "type": "int16", "scale": 0.001, "access": "RW"},
    },
}


@dataclass
class Rig:
    image: MapImage
    link: ModbusDeviceLink
    connection: ModbusConnection


def image_of(raw: Mapping[str, Any]) -> MapImage:
    image = MapImage(MapTable("ess1", parse_map(raw), SAFE), IDLE)
    image.show(READING, 0.0)
    return image


async def rig_of(raw: Mapping[str, Any], *, reactive: bool = True) -> AsyncIterator[Rig]:
    now = asyncio.get_running_loop().time
    image = image_of(raw)
    async with ModbusServer([{7: image}], port=0) as server:
        port = server.ports[0]
        make = tcp_client("127.0.0.1", port, 2.0)
        async with ModbusConnection("here", make, now=now, timeout_s=2.0) as connection:
            await connection.wait_connected()
            table = MapTable("ess1", parse_map(raw), SAFE, reactive=reactive)
            link = ModbusDeviceLink("ess1", connection, 7, table, PlantTime(now), reversion_s=60.0)
            yield Rig(image, link, connection)


@pytest.fixture
async def vendor() -> AsyncIterator[Rig]:
    async for rig in rig_of(VENDOR):
        yield rig


@pytest.fixture
async def plain() -> AsyncIterator[Rig]:
    async for rig in rig_of(PLAIN):
        yield rig


async def test_what_the_plant_measured_is_read_through_the_map(vendor: Rig) -> None:
    shown = await vendor.link.read()
    got = shown.device_reading()
    assert shown.quality is Quality.GOOD
    assert (got.p_mw, got.q_mvar, got.v_pu) == pytest.approx((-0.125, 0.05, 1.02))
    assert (got.soc, got.connected) == (0.62, True)
    assert shown.values["temperature_c"].quality is Quality.BAD


async def test_input_and_holding_registers_are_different_tables(vendor: Rig) -> None:
    low, high = await vendor.connection.read("d", 7, 10, 2, Space.INPUT)
    assert high << 16 | low == 125_000
    with pytest.raises(DeviceRejected, match="illegal data address"):
        await vendor.connection.read("d", 7, 10, 2, Space.HOLDING)


async def test_it_obeys_what_is_written_and_goes_back_to_its_safe_setpoint(vendor: Rig) -> None:
    assert vendor.image.setpoint() == IDLE
    result = await vendor.link.write(Setpoint(0.3, -0.25))
    assert result.status is WriteStatus.WRITTEN
    assert vendor.image.setpoint() == Setpoint(pytest.approx(0.3), -0.25)
    vendor.image.show(READING, 59.0)
    assert vendor.image.setpoint().p_mw == pytest.approx(0.3)
    vendor.image.show(READING, 1.0)
    assert vendor.image.setpoint().p_mw == pytest.approx(SAFE.p_mw)
    assert vendor.image.setpoint().q_mvar == pytest.approx(SAFE.q_mvar)
    assert (await vendor.link.read()).values["p_set_mw"].value == pytest.approx(0.1)


async def test_a_heartbeat_alone_renews_no_setpoint(vendor: Rig) -> None:
    await vendor.link.write(Setpoint(0.3, -0.25))
    vendor.image.show(READING, 30.0)
    await vendor.connection.write("d", 7, 109, [5])
    vendor.image.show(READING, 30.0)
    assert vendor.image.setpoint().p_mw == pytest.approx(SAFE.p_mw)


async def test_a_coil_switches_it_off(vendor: Rig) -> None:
    await vendor.link.write(Setpoint(0.3, 0.0))
    await vendor.connection.write("d", 7, 1, [0], Space.COIL)
    assert vendor.image.setpoint() == IDLE


async def test_bits_that_it_does_not_have_are_refused(vendor: Rig) -> None:
    for space, address in ((Space.COIL, 3), (Space.DISCRETE, 0)):
        with pytest.raises(DeviceRejected, match="illegal data address"):
            await vendor.connection.read("d", 7, address, 1, space)
    with pytest.raises(DeviceRejected, match="illegal data address"):
        await vendor.connection.write("d", 7, 2, [1, 1], Space.COIL)


async def test_fields_of_one_register_do_not_disturb_each_other(plain: Rig) -> None:
    reading = (await plain.link.read()).device_reading()
    assert (reading.connected, reading.soc) == (True, pytest.approx(0.62))
    plain.image.show(DeviceReading(0.0, 0.0, 1.0, 1.0, 1.0, soc=1.0, connected=False), 1.0)
    reading = (await plain.link.read()).device_reading()
    assert (reading.connected, reading.soc) == (False, 1.0)


async def test_its_own_reversion_value_counts_where_the_map_has_one(plain: Rig) -> None:
    await plain.link.write(Setpoint(0.3))
    await plain.connection.write("d", 7, 4, [50])
    plain.image.show(READING, 60.0)
    assert plain.image.setpoint().p_mw == pytest.approx(0.05)


async def test_a_plant_that_measured_nothing_shows_nothing(plain: Rig) -> None:
    plain.image.fail("no solution", 1.0)
    assert (await plain.link.read()).quality is Quality.BAD


async def test_the_documented_map_is_read_and_driven_without_reactive_power() -> None:
    page = Path(__file__).parents[3] / "docs" / "registers.md"
    documented = yaml.safe_load(
        page.read_text(encoding="utf-8").split("```yaml\n", 1)[1].split("```")[0]
    )
    limits = StorageConfig.model_validate({"bus": "", "p_max_MW": 0.5, "p_min_MW": -0.5}).limits
    async for rig in rig_of(documented, reactive=False):
        reading = (await rig.link.read()).device_reading()
        assert (reading.p_mw, reading.q_mvar) == (-0.125, 0.0)
        outcome = admit(Setpoint(0.1), limits, reading, None, 60.0)
        assert outcome.applied == Setpoint(0.1)
        await rig.link.write(Setpoint(0.1))
        assert rig.image.setpoint().p_mw == pytest.approx(0.1)


def test_a_map_that_is_no_devices_is_refused() -> None:
    raw = {"name": "meter", "points": {"volts": {"address": 0}}}
    with pytest.raises(ConfigError, match="p_mw"):
        image_of(raw)


def test_the_command_takes_maps_and_says_all_that_is_wrong_with_them(tmp_path: Path) -> None:
    from heron.powergrid.setups import read_setup

    setup = read_setup("single_microgrid")
    device = setup.config.device_ids[0]
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(yaml.safe_dump(PLAIN))
    bad.write_text("name: x\npoints: {p_mw: {address: -1}}\n")
    arguments = _parser().parse_args(["--map", f"{device}={good}"])
    assert _options(arguments, setup).maps[device].name == "Plain"
    arguments = _parser().parse_args(["--map", "nobody=x.yml", f"{device}={bad}", device])
    with pytest.raises(ConfigError) as caught:
        _options(arguments, setup)
    text = str(caught.value)
    assert text.count("expected DEVICE=FILE") == 2
    assert "address" in text
