"""A tap changer through the whole deployed loop: Modbus, MQTT, envelope, plant, and back.

The same rule on the same day, once through `env.step`, once through `heron up` with its processes:
position, voltage and loading of the tap changer, and all other devices, agree at every step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from heron.powergrid import setups
from heron.powergrid.quantities import Measurements
from heron.powergrid.registers import site_plan
from heron.powergrid.setups import read_setup
from training.envs import MultiAgentMicrogrids
from training.evaluation.episodes import baseline

STEPS = 32
DAY = 100
POINTS = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc", "tap", "loading_pct")
OLTC = {"element": "head", "init_tap": -14, "tap_time_s": 400.0, "safe_tap": 0}


@pytest.fixture
def setup_file(tmp_path: Path) -> Path:
    shipped = Path(setups.__file__).parent / "single_microgrid" / "config.yml"
    plain = yaml.safe_load(shipped.read_text())
    plain["name"] = "with_tap_changer"
    plain["dataset_path"] = str((shipped.parent / plain["dataset_path"]).resolve())
    plain["microgrid_configs"][0]["devices"].append(
        {"type": "Transformer", "name": "oltc", "device_state_config": OLTC}
    )
    folder = tmp_path / "with_tap_changer"
    folder.mkdir()
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(plain))
    return path


def by_topic(
    recording: list[dict[str, Any]],
) -> dict[str, dict[int, dict[str, dict[str, Any]]]]:
    """Return topic -> step -> device or meter -> what was said."""
    said: dict[str, dict[int, dict[str, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for entry in recording:
        message = entry["message"]
        if entry["topic"] == "telemetry":
            values = {name: p["value"] for name, p in message["points"].items()}
            said["telemetry"][message["step"]][entry["agent"]] = values
        elif "step" in message and "agent" in message:
            said[entry["topic"]][message["step"]][message["agent"]] = message
    return said


def run_environment(setup: Path) -> list[Measurements]:
    plain = read_setup(setup)
    env = MultiAgentMicrogrids(plain, through_registers=True)
    policies = baseline("rule", plain, env.codecs)
    observations, _ = env.reset(seed=0, options={"day": DAY})
    trajectory = [env.measurements]
    for _ in range(STEPS):
        actions = {agent: policies[agent].act(observations[agent]) for agent in env.agents}
        observations, *_ = env.step(actions)
        trajectory.append(env.measurements)
    return trajectory


@pytest.mark.slow
def test_deployed_tap_changer_follows_the_environment(
    setup_file: Path, run_headless: Callable[..., Any]
) -> None:
    plan = site_plan(read_setup(setup_file).config)
    _, recording = run_headless(setup=setup_file, steps=STEPS, start=f"day:{DAY}", policy="rule")
    said = by_topic(recording)
    expected = run_environment(setup_file)
    taps = [m.devices["oltc"].tap for m in expected[:STEPS]]
    assert taps[0] == -14
    assert len(set(taps)) > 3
    for step in range(STEPS):
        m = expected[step]
        for name, reading in {**m.devices, **m.meters}.items():
            shown = said["telemetry"][step][name]
            for point in POINTS:
                value = getattr(reading, point, None)
                if value is None:
                    continue
                away = abs(float(shown[point]) - value)
                assert away <= max(plan.resolution(name, point), 1e-6), (step, name, point)
        result = said["result"][step]["oltc"]
        assert result["written"]
        assert result["read_back_ok"]
        assert result["applied_tap"] == expected[step + 1].setpoints["oltc"].tap
        assert abs(result["applied_tap"] - m.devices["oltc"].tap) <= 2
