import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from edge.links.connection import LinkDown, ModbusConnection
from edge.links.modbus import ModbusDeviceLink
from edge.links.transports import tcp_client
from edge.scan import FoundUnit, scan
from edge.scan_cli import _site_file, run
from edge.site import LinkConfig, SiteConfig, load_site
from edge.timing import PlantTime
from heron.errors import ConfigError
from heron.powergrid.link import WriteStatus
from heron.powergrid.quantities import Setpoint
from heron.powergrid.registers import MapTable, site_plan
from heron.powergrid.registers.custom import load_map
from heron.powergrid.registers.sunspec import ModelChoice, fixed_values, lay_out
from heron.powergrid.setups import read_setup
from heron.testing.faults import FaultyPort, Mute, RegisterBank
from simulator.modbus.image import UnitImage
from simulator.modbus.server import ModbusServer
from simulator.modbus.site import EmulatedSite


def connection(host: str) -> ModbusConnection:
    return ModbusConnection(
        f"{host}:502",
        tcp_client(host, 502, 0.3),
        now=asyncio.get_running_loop().time,
        timeout_s=0.3,
        drop_after=1000,
    )


async def look(host: str, units: range) -> list[FoundUnit]:
    async with connection(host) as link:
        await link.wait_connected()
        return [unit async for unit in scan(link, units)]


@pytest.fixture
async def plant() -> AsyncIterator[ModbusServer]:
    plan = site_plan(read_setup("ieee34_ieee13").config)
    site = EmulatedSite(plan, {n: Setpoint(0.0) for n in plan.devices}, lambda step: False)
    async with ModbusServer(site.units, "plant", 502) as server:
        yield server


async def test_every_unit_is_found_with_its_models(plant: ModbusServer) -> None:
    found = {unit.unit: unit for unit in await look("plant", range(1, 248))}
    assert list(found) == [*range(1, 8), *range(200, 204), 247]
    assert [m.model_id for m in found[2].models] == [1, 701, 702, 704, 713, 715]
    assert (found[2].kind, found[200].kind, found[247].kind) == ("der", "meter", "other")
    assert found[2].identity["SN"] == "ess1"
    assert found[2].ratings["WHRtg"] == 2e6


async def test_a_scan_makes_a_site_file_that_is_valid_and_writes_nothing(
    plant: ModbusServer,
) -> None:
    found = await look("plant", range(1, 204))
    text = _site_file(LinkConfig(name="link1", address="plant:502"), found)
    site = SiteConfig.model_validate(yaml.safe_load(text))
    assert {device.name for device in site.devices} >= {"gen1", "ess1", "pv3"}
    assert all(device.mode == "monitor" for device in site.devices)
    battery = next(device for device in site.devices if device.name == "ess1")
    assert (battery.type, battery.config.p_range_mw) == ("ESS", (-0.5, 0.5))


async def test_a_scan_only_reads(plant: ModbusServer) -> None:
    async with FaultyPort(("plant", 502), host="proxy", port=502) as recorder:
        await look("proxy", range(1, 20))
        assert {function for _, function in recorder.seen} == {3}


async def test_a_silent_unit_costs_one_timeout() -> None:
    bank = RegisterBank()
    for unit in range(1, 11):
        bank.set(unit, 0, [0])
    async with FaultyPort(bank, host="silent", port=502) as port:
        port.fault = Mute()
        port.unit_faults[7] = None
        began = asyncio.get_running_loop().time()
        found = await look("silent", range(1, 11))
        assert asyncio.get_running_loop().time() - began == pytest.approx(9 * 0.3, abs=0.05)
    assert [(unit.unit, unit.base) for unit in found] == [(7, None)]


async def test_a_map_that_never_ends_is_given_up() -> None:
    bank = RegisterBank()
    bank.set(1, 40000, [0x5375, 0x6E53])
    async with FaultyPort(bank, host="endless", port=502):
        (unit,) = await look("endless", range(1, 2))
    assert len(unit.models) == 64
    assert unit.kind == "other"


def old_inverter() -> UnitImage:
    """What most inverters in the field have: 103, and 123 with its ceiling, but no 704."""
    exponents = {103: {"W_SF": 1}, 120: {"WRtg_SF": 2}, 121: {"WMax_SF": 2}}
    choices = [ModelChoice(i, exponents=exponents.get(i, {})) for i in (1, 103, 120, 121, 123)]
    layout = lay_out(choices)
    values = fixed_values(layout, choices)
    values |= {"1.Mn": "Sunny", "1.SN": "7 b", "103.W": 42_000.0, "121.WMax": 100_000.0}
    values |= {"123.WMaxLimPct": 100.0, "123.WMaxLim_Ena": 0}
    writable = frozenset({"123.WMaxLimPct", "123.WMaxLim_Ena", "123.WMaxLimPct_RvrtTms"})
    return UnitImage(layout.registers, values, writable)


async def test_an_inverter_without_704_gets_a_map_with_which_it_can_be_watched_and_driven(
    tmp_path: Path,
) -> None:
    async with ModbusServer([{3: old_inverter()}], "roof", 502):
        (unit,) = await look("roof", range(3, 4))
        assert (unit.kind, unit.name) == ("mapped", "d7_b")
        link = LinkConfig(name="link1", address="roof:502")
        site = yaml.safe_load(_site_file(link, [unit]))
        (tmp_path / "d7_b.map.yml").write_text(yaml.safe_dump(unit.map))
        (tmp_path / "site.yml").write_text(yaml.safe_dump(site))
        device = load_site(tmp_path / "site.yml").devices[0]
        assert (device.name, device.mode) == ("d7_b", "monitor")
        table = MapTable("d7_b", load_map(device.map), Setpoint(0.1))
        async with connection("roof") as wire:
            await wire.wait_connected()
            times = PlantTime(asyncio.get_running_loop().time)
            driven = ModbusDeviceLink("d7_b", wire, 3, table, times, reversion_s=60.0)
            assert (await driven.read()).values["p_mw"].value == pytest.approx(0.042)
            result = await driven.write(Setpoint(0.05))
            assert result.status is WriteStatus.WRITTEN
            assert result.read_back.p_mw == pytest.approx(0.05)


async def test_a_scan_without_a_connection_says_so() -> None:
    async with connection("nobody") as link:
        with pytest.raises(LinkDown, match="nobody:502"):
            _ = [unit async for unit in scan(link, range(1, 3))]


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path) -> None:
    site = tmp_path / "SITE.yml"
    site.write_text("edited: by hand")
    with pytest.raises(ConfigError, match=r"--write = .*--force"):
        run(["127.0.0.1:1", "--write", str(site)])
    assert site.read_text() == "edited: by hand"
