"""`heron up` as a user runs it: real processes, real sockets, over both brokers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from heron.messaging.embedded import EmbeddedBroker, free_port
from heron.powergrid.setups import read_setup
from heron.powergrid.setups.loader import SETUPS_DIR
from heron.testing.brokers import mosquitto

SETUP = "ieee34_ieee13"


@pytest.fixture(params=["embedded", pytest.param("mosquitto", marks=pytest.mark.broker)])
async def broker_url(request: pytest.FixtureRequest) -> AsyncIterator[str]:
    async with AsyncExitStack() as stack:
        if request.param == "embedded":
            yield (await stack.enter_async_context(EmbeddedBroker())).url
        else:
            yield await stack.enter_async_context(mosquitto())


@dataclass
class Ended:
    """What a run of the program left."""

    code: int
    out: str
    err: str

    @property
    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = json.loads(self.out)
        return report


started: list[asyncio.subprocess.Process] = []


@pytest.fixture(autouse=True)
async def _nothing_is_left_running() -> AsyncIterator[None]:
    """End what a test that failed half-way left."""
    yield
    for process in started:
        if process.returncode is None:
            process.terminate()
            await process.communicate()
    started.clear()


async def start(folder: Path, *argv: str) -> asyncio.subprocess.Process:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", "up", "--setup", SETUP),
        *("--headless", "--json", "--pace", "max", "--runs", str(folder / "runs")),
        *argv,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    started.append(process)
    return process


async def end_of(process: asyncio.subprocess.Process) -> Ended:
    async with asyncio.timeout(120):
        out, err = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def up(folder: Path, *argv: str) -> Ended:
    return await end_of(await start(folder, *argv))


def children_of(pid: int) -> dict[str, int]:
    """Return the running children of a process: sub-command to process id."""
    found = {}
    for task in Path("/proc").iterdir():
        if not task.name.isdecimal():
            continue
        try:
            stat = (task / "stat").read_text().rsplit(")", 1)[1].split()
            argv = (task / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if int(stat[1]) == pid and stat[0] != "Z":
            name = "broker" if "heron.messaging.embedded" in argv else argv[3]
            found[name] = int(task.name)
    return found


async def until_recorded(path: Path, text: str) -> None:
    """Wait until a recording holds a text: the loop has come so far."""
    async with asyncio.timeout(60):
        while not holds(path, text):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.05)


def holds(path: Path, text: str) -> bool:
    return path.exists() and text in path.read_text()


def runs(pid: int) -> bool:
    """A zombie that nobody waits for does not run."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


async def test_a_run_closes_the_loop_at_every_step(tmp_path: Path, broker_url: str) -> None:
    ended = await up(tmp_path, "--steps", "6", "--policy", "rule", "--broker", broker_url)
    assert (ended.code, ended.err) == (0, "")
    report = ended.report
    n_devices = len(read_setup(SETUP).config.device_ids)
    assert (report["outcome"], report["steps"], report["closed_loop_steps"]) == ("finished", 6, 6)
    assert report["commands"]["written"] == 6 * n_devices
    assert report["commands"]["read_back_differs"] == report["modbus"]["errors"] == 0
    assert report["modbus"]["reads"] > 0
    assert report["mqtt"]["topics"]["command"] >= 6 * n_devices
    assert report["mqtt"]["dropped"] == report["mqtt"]["invalid"] == 0
    assert set(report["agents"]) == {"DSO", "MG1", "MG2", "MG3"}
    total = report["total"]
    assert total["cost_usd"] == pytest.approx(sum(a["cost_usd"] for a in report["agents"].values()))
    assert report["policies"] == dict.fromkeys(("MG1", "MG2", "MG3"), "rule")
    assert report["memory_total_mb"]["peak"] < 900.0
    assert report["memory_mb"]["edge"]["peak"] < 120.0


async def test_a_stop_in_mid_step_ends_everything(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    process = await start(tmp_path, "--policy", "rule", "--record", str(record))
    await until_recorded(record, '"acted"')
    pids = children_of(process.pid)
    process.send_signal(signal.SIGINT)
    ended = await end_of(process)
    assert (ended.code, ended.report["outcome"]) == (0, "stopped")
    assert sorted(pids) == ["broker", "controller", "edge", "simulate"]
    assert children_of(process.pid) == {}
    assert not any(runs(pid) for pid in pids.values())


async def test_a_stop_before_the_last_step_is_130(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    argv = ["--policy", "rule", "--steps", "5000", "--record", str(record)]
    process = await start(tmp_path, *argv)
    await until_recorded(record, '"acted"')
    process.terminate()
    ended = await end_of(process)
    assert (ended.code, ended.report["outcome"]) == (130, "stopped")


@pytest.mark.parametrize("victim", ["simulate", "controller", "edge", "broker"])
async def test_a_child_that_dies_ends_the_rest(tmp_path: Path, victim: str) -> None:
    record = tmp_path / "record.jsonl"
    process = await start(tmp_path, "--policy", "rule", "--record", str(record))
    await until_recorded(record, '"acted"')
    pids = children_of(process.pid)
    os.kill(pids[victim], signal.SIGKILL)
    ended = await end_of(process)
    assert ended.code == 1
    assert ended.err == f"heron: up: {victim} was killed by SIGKILL\n"
    assert ended.report["outcome"] == "failed"
    assert not any(runs(pid) for pid in pids.values())


async def test_a_killed_parent_leaves_nothing_behind(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    process = await start(tmp_path, "--policy", "rule", "--record", str(record))
    await until_recorded(record, '"acted"')
    pids = children_of(process.pid)
    process.kill()
    await process.communicate()
    async with asyncio.timeout(30):
        while any(runs(pid) for pid in pids.values()):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


async def test_a_taken_modbus_port_is_one_line(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        ended = await up(tmp_path, "--steps", "2", "--port", str(port))
    assert ended.code == 1
    assert ended.err.count("\n") == 1
    assert str(port) in ended.err
    assert ended.report["commands"]["sent"] == 0


async def test_a_broker_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    url = f"mqtt://127.0.0.1:{free_port()}"
    ended = await up(tmp_path, "--steps", "2", "--broker", url)
    assert ended.code == 1
    assert ended.err.startswith(f"heron: up: broker {url}: ")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("argv", "told"),
    [
        (["--setup", "nowhere"], "nowhere"),
        (["--broker", "http://x"], "expected mqtt://host:port"),
        (["--policy", "/no/such/file.onnx"], "no such file"),
    ],
)
async def test_bad_input_starts_nothing(tmp_path: Path, argv: list[str], told: str) -> None:
    ended = await up(tmp_path, "--steps", "2", *argv)
    assert ended.code == 1
    assert told in ended.err
    assert ended.err.count("\n") == 1


async def test_a_damaged_policy_is_one_line_and_no_device_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    for name in ("MG1", "MG2", "MG3"):
        (folder / f"{name}.onnx").write_bytes(b"not a network")
    ended = await up(tmp_path, "--steps", "2", "--policy", str(folder))
    assert ended.code == 1
    assert "MG1.onnx" in ended.err
    assert ended.err.count("\n") == 1
    assert (ended.report["commands"]["sent"], ended.report["modbus"]["writes"]) == (0, 0)


async def test_two_runs_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    both = [await start(tmp_path, "--steps", "3", "--policy", "none") for _ in range(2)]
    ended = await asyncio.gather(*(end_of(one) for one in both))
    assert [(e.code, e.report["steps"]) for e in ended] == [(0, 3), (0, 3)]
    assert ended[0].report["total"] == ended[1].report["total"]


async def test_a_second_loop_on_the_same_site_is_refused(tmp_path: Path, broker_url: str) -> None:
    record = tmp_path / "record.jsonl"
    first = await start(tmp_path, "--broker", broker_url, "--record", str(record))
    await until_recorded(record, '"acted"')
    second = await up(tmp_path, "--broker", broker_url, "--steps", "1")
    assert second.code == 1
    assert "is in use (edge, simulator online)" in second.err
    other = await up(tmp_path, "--broker", broker_url, "--steps", "2", "--site", "other")
    assert (other.code, other.report["steps"]) == (0, 2)
    first.terminate()
    assert (await end_of(first)).code == 0


async def test_operators_stop_release_and_limit_from_the_command_line(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    async with EmbeddedBroker() as broker:
        argv = ["--policy", "rule", "--broker", broker.url, "--record", str(record)]
        process = await start(tmp_path, *argv)
        await until_recorded(record, '"acted"')

        async def told(*words: str) -> Ended:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "heron.cli.main", *words, "--broker", broker.url),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            return await end_of(child)

        stop = await told("mode", "ess1", "stopped", "--reason", "fuse out")
        assert (stop.code, stop.err) == (0, "")
        assert stop.out.split()[:2] == ["ess1", "stopped"]
        assert "fuse out" in stop.out
        every = await told("mode", "all", "closed_loop", "--json")
        assert {a["agent"]: a["mode"] for a in json.loads(every.out)} == dict.fromkeys(
            read_setup(SETUP).config.device_ids, "closed_loop"
        )
        assert (await told("mode", "MG2", "advisory")).code == 0
        refused = await told("mode", "MG2", "fallback")
        assert (refused.code, refused.out.split()[:2]) == (1, ["MG2", "advisory"])
        limited = await told("limits", "MG1", "--export", "0.2")
        assert (limited.code, limited.out) == (
            0,
            "limits of MG1: export at most 0.2 MW, import free\n",
        )
        nobody = await told("limits", "MG9", "--export", "0.2")
        assert nobody.code == 1
        assert "expected one of MG1, MG2, MG3" in nobody.out
        unknown = await told("mode", "ess9", "stopped")
        assert unknown.code == 1
        assert unknown.err.count("\n") == 1
        assert "ess9 is not online: expected one of MG1, MG2, MG3, ess1" in unknown.err
        process.send_signal(signal.SIGINT)
        assert (await end_of(process)).code == 0


async def test_a_run_coordinates_as_its_setup_says_unless_told_otherwise(tmp_path: Path) -> None:
    raw = yaml.safe_load((SETUPS_DIR / SETUP / "config.yml").read_text())
    raw.pop("dataset_path", None)
    site = tmp_path / "config.yml"
    site.write_text(yaml.safe_dump({**raw, "protocol": "p2p"}))
    market = await up(tmp_path, "--setup", str(site), "--steps", "2")
    assert (market.code, market.err) == (0, "")
    assert market.report["policies"] == dict.fromkeys(("MG1", "MG2", "MG3"), "rule")
    assert (market.report["market"]["protocol"], market.report["market"]["rounds"]) == ("p2p", 2)
    alone = await up(tmp_path, "--setup", str(site), "--steps", "2", "--protocol", "setpoint")
    assert (alone.code, alone.report["market"]) == (0, None)
