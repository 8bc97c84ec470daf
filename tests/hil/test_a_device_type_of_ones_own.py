"""A device type that a setup imports is known to every process that a command starts."""

from __future__ import annotations

import asyncio
import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from heron.powergrid.setups.loader import SETUPS_DIR

EXAMPLE = Path(__file__).parents[2] / "examples" / "04_custom_device.py"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A setup whose sun is on the tracker of the example, which lies beside it."""
    folder = SETUPS_DIR / "single_microgrid"
    raw = yaml.safe_load((folder / "config.yml").read_text())
    raw["dataset_path"] = str((folder / raw["dataset_path"]).resolve())
    raw["imports"] = ["tracker.py"]
    (sun,) = [d for m in raw["microgrid_configs"] for d in m["devices"] if d["type"] == "PV"]
    sun["type"] = "TrackerPV"
    setup = tmp_path / "site"
    setup.mkdir()
    shutil.copy(EXAMPLE, setup / "tracker.py")
    (setup / "config.yml").write_text(yaml.safe_dump(raw))
    return setup


async def heron(folder: Path, *argv: str) -> str:
    """Run a command in a folder to its end; return what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "heron.cli.main", *argv),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=folder,
    )
    try:
        async with asyncio.timeout(300):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_whole_loop_runs_with_it(site: Path) -> None:
    argv = ("--setup", "site", "--headless", "--json", "--pace", "max", "--steps", "3")
    report = json.loads(await heron(site.parent, "up", *argv, "--runs", "runs"))
    assert (report["outcome"], report["closed_loop_steps"]) == ("finished", 3)
    assert report["modbus"]["errors"] == report["commands"]["read_back_differs"] == 0


async def test_rays_workers_know_it(site: Path) -> None:
    argv = ("--setup", "site", "--test", "--no-batched", "--num-workers", "1")
    await heron(site.parent, "train", *argv, "--checkpoint-dir", "run")
    with (site.parent / "run" / "progress.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
