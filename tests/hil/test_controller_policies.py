"""Coordinators' policies led by command, over a broker: promoted, kept, rolled back."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heron.cli.processes import Child
from heron.messaging.embedded import EmbeddedBroker
from heron.messaging.mqtt import MqttBus
from heron.messaging.topics import STATUS
from heron.policy import Manifest, PolicyCodec, codec_of
from heron.powergrid.agents import build_agents
from heron.powergrid.setups import read_setup
from training.export.graph import Network, to_onnx

SETUP = "ieee34_ieee13"


def put(path: Path, codec: PolicyCodec, action: float, version: str) -> None:
    """Write a policy that always gives the same action."""
    ins, outs = codec.obs_dim, codec.act_dim
    network = Network(
        np.zeros(ins, np.float32),
        np.ones(ins, np.float32),
        10.0,
        (np.zeros((4, ins), np.float32), np.zeros((outs, 4), np.float32)),
        (np.zeros(4, np.float32), np.full(outs, action, np.float32)),
    )
    facts: dict[str, Any] = {"algorithm": "none", "step_s": 900.0, "seed": 0, "env_steps": 0}
    manifest = Manifest(
        name="constant",
        version=version,
        agent_id=codec.agent_id,
        setup=SETUP,
        codec=codec.to_dict(),
        codec_hash=codec.hash,
        **facts,
    )
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(to_onnx(network, manifest))


@asynccontextmanager
async def controller(url: str, folder: Path, log: str) -> AsyncIterator[None]:
    """Run a controller until its DSO is online."""
    argv = ["controller", "--setup", SETUP, "--broker", url]
    argv += ["--policy", str(folder / "active"), "--candidate", str(folder / "candidates")]
    async with MqttBus(url) as bus, bus.subscribe(STATUS, agent="DSO") as statuses:
        async with asyncio.timeout(60), Child("controller", argv, folder / log):
            async for _, status in statuses:
                if status.online:
                    break
            yield
        async for _, status in statuses:
            if not status.online:
                break


async def policy(url: str, verb: str, agent: str) -> tuple[int, dict[str, Any], str]:
    """Run `heron policy VERB AGENT`."""
    command = ["-m", "heron.cli.main", "policy", verb, agent, "--broker", url, "--json"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, json.loads(out or b"{}"), err.decode()


@pytest.mark.slow
async def test_a_promotion_at_a_coordinator_survives_the_process(tmp_path: Path) -> None:
    for name, agent in build_agents(read_setup(SETUP)).microgrids.items():
        put(tmp_path / "active" / f"{name}.onnx", codec_of(agent), 0.0, "1")
    mg2 = build_agents(read_setup(SETUP)).microgrids["MG2"]
    put(tmp_path / "candidates" / "MG2.onnx", codec_of(mg2), 0.5, "2")
    async with EmbeddedBroker() as broker:
        url = broker.url
        async with controller(url, tmp_path, "first.log"):
            code, report, _ = await policy(url, "shadow", "MG2")
            assert code == 0
            assert (report["active"], report["candidate"]) == ("constant 1", "constant 2")
            code, report, _ = await policy(url, "promote", "MG2")
            assert (code, report["active"]) == (0, "constant 2")
            code, report, _ = await policy(url, "promote", "MG1")
            assert (code, report["active"]) == (1, None)
            assert "can be promoted" in report["refused"]
        async with controller(url, tmp_path, "second.log"):
            code, report, _ = await policy(url, "rollback", "MG2")
            assert (code, report["active"]) == (0, "constant 1")
            assert report["rollbacks"] == 1
        async with controller(url, tmp_path, "third.log"):
            _, report, _ = await policy(url, "shadow", "MG2")
            assert (report["active"], report["candidate"]) == ("constant 1", "constant 2")
            code, _, error = await policy(url, "shadow", "MG9")
            assert code == 1
            assert "MG9: no answer within 5 s" in error
