"""Edge and controller beside devices that know no plant's clock, as real ones do not."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import Process
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import pytest
import yaml

from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt import MqttBus
from heron.messaging.topics import RESULT
from heron.messaging.wire import CommandResult
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import read_setup

SETUP = "single_microgrid"
START_S = 60.0


async def heron(stack: AsyncExitStack, *argv: str) -> Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", *argv), stdout=asyncio.subprocess.PIPE
    )

    async def end() -> None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()

    stack.push_async_callback(end)
    return process


def site_file(broker: str, port: int) -> str:
    """Return a site file of the setup's devices, as an engineer would write it."""
    config = read_setup(SETUP).config
    plan = site_plan(config)
    entries = {d.name: d for m in config.microgrid_configs for d in m.devices}
    devices = [
        {
            "name": name,
            "type": entries[name].type,
            "link": "yard",
            "unit": unit.unit_id,
            "config": entries[name].device_state_config.model_dump(mode="json", exclude_unset=True),
        }
        for name, unit in plan.devices.items()
    ]
    meters = [
        {"name": name, "link": "yard", "unit": unit.unit_id, "nominal_v": unit.table.nominal_ll_v}
        for name, unit in plan.meters.items()
        if name != "head"
    ]
    return yaml.safe_dump(
        {
            "broker": broker,
            "period_s": 0.2,
            "links": [{"name": "yard", "address": f"127.0.0.1:{port}"}],
            "devices": devices,
            "meters": meters,
        }
    )


@pytest.mark.slow
async def test_the_calendar_drives_a_site_from_its_meters_to_its_registers(tmp_path: Path) -> None:
    wanted = set(read_setup(SETUP).config.device_ids)
    async with AsyncExitStack() as stack, asyncio.timeout(2 * START_S):
        broker = await stack.enter_async_context(EmbeddedBroker())
        plant = await heron(stack, *("simulate", "--setup", SETUP, "--port", "0"), "--json")
        assert plant.stdout is not None
        port = json.loads(await plant.stdout.readline())["port"]
        site = tmp_path / "SITE.yml"
        site.write_text(site_file(broker.url, port))
        bus = await stack.enter_async_context(MqttBus(broker.url))
        results = await stack.enter_async_context(bus.subscribe(RESULT))
        await heron(stack, "edge", str(site))
        options = ("--clock", "wall", "--interval", "1", "--policy", "rule")
        await heron(stack, "controller", "--setup", SETUP, "--broker", broker.url, *options)
        written: dict[str, CommandResult] = {}
        async for agent, result in results:
            if result.written and result.sequence >= 0:
                written[agent] = result
            if set(written) == wanted:
                break
        assert all(result.step == -1 for result in written.values())
