import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.commands import CommandInbox
from edge.cycle import DeviceCycle
from edge.fallback import BumplessReturn, SafeSetpoint
from edge.policies import PolicySlot, device_codec
from edge.reload import SiteKeeper
from edge.runtime import EdgeRuntime, EdgeSettings, Parts
from edge.sensor import Sensor
from edge.site import load_site
from edge.timing import PlantTime
from heron.errors import ConfigError, ManifestMismatch, PolicyError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import POLICY, POLICY_REPORT
from heron.messaging.wire import PolicyReport, PolicyRequest
from heron.policy import Manifest, PolicyCodec, signing
from heron.powergrid.agents import ESS
from heron.powergrid.modes import ModeMachine
from heron.powergrid.quantities import DeviceReading
from heron.testing.links import InMemoryLink
from training.export.graph import Network, to_onnx

READING = DeviceReading(p_mw=0.1, q_mvar=0.0, v_pu=1.0, v_min_pu=0.99, v_max_pu=1.01, soc=0.5)


def network(codec: PolicyCodec, action: float) -> Network:
    """A network that always gives the same action."""
    ins, outs = codec.obs_dim, codec.act_dim
    return Network(
        np.zeros(ins, np.float32),
        np.ones(ins, np.float32),
        10.0,
        (np.zeros((4, ins), np.float32), np.zeros((outs, 4), np.float32)),
        (np.zeros(4, np.float32), np.full(outs, action, np.float32)),
    )


def put(path: Path, codec: PolicyCodec, action: float, version: str = "1") -> None:
    manifest = Manifest.model_validate(
        {
            "name": "test",
            "version": version,
            "agent_id": codec.agent_id,
            "setup": "none",
            "algorithm": "none",
            "step_s": 1.0,
            "seed": 0,
            "env_steps": 0,
            "codec": codec.to_dict(),
            "codec_hash": codec.hash,
        }
    )
    beside = path.with_suffix(".new")
    beside.write_bytes(to_onnx(network(codec, action), manifest))
    beside.replace(path)


@pytest.fixture
def agent() -> ESS:
    agent = ESS("ess1", device_state_config={"bus": "b", "p_min_mw": -0.5, "p_max_mw": 0.5})
    agent.take_reading(READING)
    return agent


@pytest.fixture
def path(tmp_path: Path, agent: ESS) -> Path:
    path = tmp_path / "ess1.onnx"
    put(path, device_codec(agent), 0.2)
    return path


def decides(slot: PolicySlot) -> float:
    return round(slot(READING).p_mw, 6)


def test_a_policy_decides_from_the_devices_own_features(agent: ESS, path: Path) -> None:
    assert decides(PolicySlot(agent, path)) == 0.1


def test_a_replaced_file_takes_over_without_a_missed_decision(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    decides(slot)
    put(path, device_codec(agent), -0.4, version="2")
    assert decides(slot) == -0.2
    assert (slot.swaps, slot.active.manifest.version) == (1, "2")


def test_a_damaged_file_is_refused_and_the_old_policy_stays(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    path.write_bytes(path.read_bytes()[:-20])
    assert decides(slot) == 0.1
    assert slot.swaps == 0


def test_a_policy_for_another_device_is_refused(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    codec = device_codec(agent)
    other = PolicyCodec("ess1", codec.fields, tuple(replace(s, high=9.0) for s in codec.setpoints))
    put(path, other, 0.9)
    assert decides(slot) == 0.1
    with pytest.raises(ManifestMismatch):
        PolicySlot(agent, path)


def test_a_file_that_vanishes_leaves_the_policy_in_force(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    path.unlink()
    assert decides(slot) == 0.1


def test_a_candidate_decides_in_the_shadow_only(agent: ESS, path: Path, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    slot = PolicySlot(agent, path, candidate)
    assert [decides(slot) for _ in range(3)] == [0.1, 0.1, 0.1]
    assert slot.shadow.decisions == 3
    assert slot.shadow.mean_difference == pytest.approx(0.3, abs=1e-6)
    assert slot.shadow.largest_difference == pytest.approx(0.3, abs=1e-6)


def test_a_promoted_candidate_decides_and_can_be_rolled_back(
    agent: ESS, path: Path, tmp_path: Path
) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    slot = PolicySlot(agent, path, candidate)
    slot.promote()
    assert decides(slot) == 0.25
    slot.roll_back()
    assert decides(slot) == 0.1
    with pytest.raises(PolicyError, match="roll back"):
        slot.roll_back()
    with pytest.raises(PolicyError, match="candidate"):
        slot.promote()


def test_a_promotion_survives_a_restart_until_it_is_rolled_back(
    agent: ESS, path: Path, tmp_path: Path
) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    PolicySlot(agent, path, candidate).promote()
    again = PolicySlot(agent, path, candidate)
    assert decides(again) == 0.25
    assert again.report().candidate is None
    again.roll_back()
    assert decides(again) == 0.1
    assert decides(PolicySlot(agent, path, candidate)) == 0.1


@pytest.mark.parametrize("which", ["candidate", "active"])
def test_a_promotion_of_other_files_does_not_count_after_a_restart(
    agent: ESS, path: Path, tmp_path: Path, which: str
) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    PolicySlot(agent, path, candidate).promote()
    put(candidate if which == "candidate" else path, device_codec(agent), -0.2, version="3")
    expected = 0.1 if which == "candidate" else -0.1
    assert decides(PolicySlot(agent, path, candidate)) == expected


def test_a_record_of_a_promotion_that_is_damaged_does_not_count(
    agent: ESS, path: Path, tmp_path: Path
) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    PolicySlot(agent, path, candidate).promote()
    (tmp_path / "candidate.onnx.promoted").write_text('{"candidate": ')
    assert decides(PolicySlot(agent, path, candidate)) == 0.1


def test_a_promotion_that_cannot_be_kept_is_refused(agent: ESS, path: Path, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    (tmp_path / "candidate.onnx.promoted.part").mkdir()
    slot = PolicySlot(agent, path, candidate)
    with pytest.raises(PolicyError, match="cannot be kept"):
        slot.promote()
    assert decides(slot) == 0.1


def test_a_new_file_ends_a_promotion(agent: ESS, path: Path, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    slot = PolicySlot(agent, path, candidate)
    slot.promote()
    put(path, device_codec(agent), -0.4, version="2")
    assert decides(slot) == -0.2
    assert not (tmp_path / "candidate.onnx.promoted").exists()


def test_a_new_policy_that_cannot_decide_gives_way_to_the_former(agent: ESS, path: Path) -> None:
    slot = PolicySlot(agent, path)
    decides(slot)
    put(path, device_codec(agent), float("nan"))
    assert decides(slot) == 0.1
    assert slot.rollbacks == 1


def test_without_a_former_policy_the_failure_is_told(agent: ESS, path: Path) -> None:
    put(path, device_codec(agent), float("nan"))
    with pytest.raises(PolicyError):
        PolicySlot(agent, path)(READING)


# --- signatures ---


def sign(path: Path, key: Path) -> None:
    beside = path.with_suffix(".signed")
    beside.write_bytes(signing.sign(path.read_bytes(), key))
    beside.replace(path)


def test_with_a_key_only_what_it_signed_takes_over(agent: ESS, path: Path, tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.pem", tmp_path / "theirs.pem"
    public = signing.new_key(ours)
    signing.new_key(theirs)
    with pytest.raises(PolicyError, match="sign"):
        PolicySlot(agent, path, key=public)
    sign(path, ours)
    slot = PolicySlot(agent, path, key=public)
    put(path, device_codec(agent), 0.9, version="unsigned")
    assert decides(slot) == 0.1
    sign(path, theirs)
    assert decides(slot) == 0.1
    put(path, device_codec(agent), -0.4, version="2")
    sign(path, ours)
    assert decides(slot) == -0.2
    assert slot.swaps == 1


def test_a_candidate_must_be_signed_too(agent: ESS, path: Path, tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5)
    public = signing.new_key(tmp_path / "ours.pem")
    sign(path, tmp_path / "ours.pem")
    with pytest.raises(PolicyError, match="sign"):
        PolicySlot(agent, path, candidate, public)


SITE = """
policy_key: "KEY"
links: [{name: yard, address: "10.0.0.5:502"}]
devices:
  - name: ess1
    type: ESS
    link: yard
    unit: 2
    policy: ess1.onnx
    config: {p_max_MW: 0.5, p_min_MW: -0.5}
"""


def test_a_sites_key_refuses_a_policy_that_another_signed(
    agent: ESS, path: Path, tmp_path: Path
) -> None:
    public = signing.new_key(tmp_path / "ours.pem")
    signing.new_key(tmp_path / "theirs.pem")
    site = tmp_path / "SITE.yml"
    site.write_text(SITE.replace("KEY", public))
    for key, fits in (("theirs.pem", False), ("ours.pem", True)):
        put(path, device_codec(agent), 0.2)
        sign(path, tmp_path / key)
        keeper = SiteKeeper(site, PlantTime())
        if fits:
            assert list(keeper.prepare(load_site(site)).units) == ["ess1"]
        else:
            with pytest.raises(ConfigError, match="signed by another key"):
                keeper.prepare(load_site(site))


# --- requests over the bus ---


class Rig:
    """One battery with a policy and a candidate, one without, and an operator on the bus."""

    def __init__(self, slot: PolicySlot, agent: ESS) -> None:
        hub = MemoryHub()
        self.bus, self.others = InMemoryBus(hub), InMemoryBus(hub)
        self.slot = slot
        self.now = asyncio.get_running_loop().time
        self.time = PlantTime(self.now)
        other = ESS("ess2", device_state_config={"bus": "b", "p_min_mw": -0.5, "p_max_mw": 0.5})
        devices = {"ess1": self._cycle(agent, slot), "ess2": self._cycle(other, None)}
        settings = EdgeSettings(edge_id="edge-1", period_s=1.0)
        self.runtime = EdgeRuntime(settings, self.bus, self.time, Parts(devices, {}))
        self.reports: asyncio.Queue[PolicyReport] = asyncio.Queue()

    def _cycle(self, agent: ESS, policy: PolicySlot | None) -> DeviceCycle:
        link = InMemoryLink(agent.agent_id, READING, now=self.now)
        return DeviceCycle(
            link=link,
            agent=agent,
            modes=ModeMachine(),
            inbox=CommandInbox(self.time),
            fallback=SafeSetpoint(agent.device_config),
            time=self.time,
            sensor=Sensor(link, self.time, 3.0),
            bumpless=BumplessReturn(),
            policy=policy,
        )

    async def ask(
        self, action: str, *, agent: str = "ess1", issuer: str = "operator:ann"
    ) -> PolicyReport:
        wish = PolicyRequest(agent=agent, action=action, issuer=issuer)
        await self.others.publish(POLICY, wish, agent=agent)
        async with asyncio.timeout(2.0):
            return await self.reports.get()

    async def _listen(self) -> None:
        async with self.others.subscribe(POLICY_REPORT) as messages:
            async for agent, report in messages:
                assert report.agent == agent
                self.reports.put_nowait(report)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        stop = asyncio.Event()
        async with self.bus, self.others, asyncio.TaskGroup() as group:
            ear = group.create_task(self._listen())
            edge = group.create_task(self.runtime.run(stop))
            await asyncio.sleep(3.5)
            yield self
            stop.set()
            await edge
            ear.cancel()


@pytest.fixture
def shadowed(agent: ESS, path: Path, tmp_path: Path) -> PolicySlot:
    candidate = tmp_path / "candidate.onnx"
    put(candidate, device_codec(agent), 0.5, version="2")
    return PolicySlot(agent, path, candidate)


async def test_an_operator_asks_promotes_and_rolls_back_over_the_bus(
    agent: ESS, shadowed: PolicySlot
) -> None:
    async with Rig(shadowed, agent).running() as rig:
        shown = await rig.ask("report")
        assert (shown.active, shown.candidate, shown.former) == ("test 1", "test 2", None)
        assert shown.decisions == 4
        assert shown.mean_difference == pytest.approx(0.3, abs=1e-6)
        promoted = await rig.ask("promote")
        assert (promoted.active, promoted.candidate, promoted.former) == ("test 2", None, "test 1")
        assert (promoted.swaps, promoted.refused) == (1, "")
        again = await rig.ask("promote")
        assert "no candidate" in again.refused
        back = await rig.ask("roll_back", agent="edge-1")
        assert (back.active, back.former, back.rollbacks) == ("test 1", None, 1)
        assert decides(rig.slot) == 0.1
        assert rig.reports.empty()


async def test_only_an_operator_changes_who_decides_but_anyone_may_ask(
    agent: ESS, shadowed: PolicySlot
) -> None:
    async with Rig(shadowed, agent).running() as rig:
        for action in ("promote", "roll_back"):
            report = await rig.ask(action, issuer="MG1")
            assert report.refused == f"{action} is for: operator"
            assert (report.active, report.swaps) == ("test 1", 0)
        assert (await rig.ask("report", issuer="MG1")).refused == ""


async def test_a_device_without_a_policy_says_so(agent: ESS, shadowed: PolicySlot) -> None:
    async with Rig(shadowed, agent).running() as rig:
        report = await rig.ask("promote", agent="ess2")
        assert report.active is None
        assert report.refused == "no policy that can be promoted or rolled back decides here"
