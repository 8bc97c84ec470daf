"""A setup, or an installed package, brings modules that register device types."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import simulator.physics as physics
from edge.site import SiteConfig
from heron.cli.setups import run
from heron.errors import ConfigError
from heron.powergrid.agents import DEVICE_REGISTRY, scheme_of
from heron.powergrid.plans import fingerprint
from heron.powergrid.quantities import Setpoint
from heron.powergrid.setups import as_setup, load_setup, models, read_setup
from heron.powergrid.setups.loader import SETUPS_DIR
from heron.powergrid.setups.own_modules import load_module
from simulator import Plant

KILN = """
import numpy as np
from pydantic import Field

from heron.powergrid.agents import DeviceAgent, register_device
from heron.powergrid.device_configs import DeviceConfig
from heron.protocols import SetpointProtocol
from simulator.physics import Advance, DevicePhysics, add_physics


class KilnConfig(DeviceConfig):
    p_rated_mw: float = Field(gt=0)

    @property
    def p_range_mw(self):
        return (-self.p_rated_mw, 0.0)


@register_device("Kiln")
class Kiln(DeviceAgent):
    config_model = KilnConfig

    def set_state(self):
        super().set_state()
        self.state.features.extend([self.electrical_feature(), self.limits_feature()])


class KilnPhysics(DevicePhysics):
    def idle(self):
        return self.p_max, np.zeros(self.n)

    def advance(self, state, p_mw, q_mvar, ambient):
        target, limited = self.within_p_limits(p_mw)
        mean, end, ramped = self.ramp(state["p_mw"], target, ambient.dt_s)
        return Advance(mean, np.zeros_like(mean), {"p_mw": end}, limited | ramped)


class Mine(SetpointProtocol):
    pass


add_physics(KilnConfig, KilnPhysics)
"""


@pytest.fixture(autouse=True)
def _registries_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(models, "_extra_types", dict(models._extra_types))
    monkeypatch.setattr(physics, "_PHYSICS", dict(physics._PHYSICS))
    types, modules = dict(DEVICE_REGISTRY), set(sys.modules)
    yield
    for name in set(DEVICE_REGISTRY) - set(types):
        del DEVICE_REGISTRY[name]
    for name in set(sys.modules) - modules:
        if "kiln" in name or name == "electrolyser":
            del sys.modules[name]


def site(folder: Path, **changes: Any) -> Path:
    """Write the setup of a site with a kiln, its module beside it."""
    raw = yaml.safe_load((SETUPS_DIR / "single_microgrid" / "config.yml").read_text())
    raw["dataset_path"] = str(SETUPS_DIR / "single_microgrid" / raw["dataset_path"])
    state = {"bus": "Bus 633", "p_rated_mw": 0.2}
    kiln = {"type": "Kiln", "name": "kiln", "device_state_config": state}
    raw["microgrid_configs"][0]["devices"].append(kiln)
    (folder / "own_kiln.py").write_text(KILN)
    config = folder / "config.yml"
    config.write_text(yaml.safe_dump({**raw, **changes}))
    return config


def test_a_type_of_a_file_beside_the_setup_is_known_and_runs_in_the_plant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = site(tmp_path, imports=["own_kiln.py"])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert run(["check", str(config)]) == 0
    plant = Plant(read_setup(config))
    plant.reset(seed=0, start_s=0.0)
    assert plant.step({"kiln": Setpoint(-0.15)}, 900.0).devices["kiln"].p_mw == -0.15
    plain = load_setup(config)
    assert plain["imports"] == [str(tmp_path / "own_kiln.py")]
    assert as_setup(plain).config.device("kiln").type == "Kiln"


def test_without_the_key_the_type_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"devices\[\d\].type = 'Kiln': unknown device type"):
        read_setup(site(tmp_path))


def test_a_file_runs_once_also_if_it_holds_the_protocol(tmp_path: Path) -> None:
    config = site(tmp_path, imports=["own_kiln.py"], protocol="own_kiln.py:Mine")
    setup = read_setup(config)
    before = DEVICE_REGISTRY["Kiln"]
    assert scheme_of(setup.config.protocol).protocol.__name__ == "Mine"
    read_setup(config)
    assert DEVICE_REGISTRY["Kiln"] is before


def test_a_file_that_has_changed_runs_again_and_its_type_replaces_the_one_before(
    tmp_path: Path,
) -> None:
    config = site(tmp_path, imports=["own_kiln.py"])
    read_setup(config)
    text = KILN.replace("p_rated_mw: float", "efficiency: float = 0.9\n    p_rated_mw: float")
    (tmp_path / "own_kiln.py").write_text(text)
    assert read_setup(config).config.device("kiln").device_state_config.efficiency == 0.9


def test_files_of_one_name_in_two_folders_are_two_modules(tmp_path: Path) -> None:
    texts = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "own_kiln.py").write_text(f"HERE = {folder!r}\n")
        texts.append(load_module(str(tmp_path / folder / "own_kiln.py")).HERE)
    assert texts == ["a", "b"]


def test_a_file_named_like_a_library_does_not_hide_it(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("kiln = 1\n")
    assert load_module(str(tmp_path / "json.py")).kiln == 1
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("gone.py", None, "No such file"),
        ("no_such_module", None, "No module named 'no_such_module'"),
        ("bad_kiln.py", "x = 1\nraise KeyError('oh')\n", "KeyError: 'oh' (line 2)"),
        ("bad_kiln.py", "import no_such_kiln\n", "No module named 'no_such_kiln' (line 1)"),
        ("bad_kiln.py", "def f(:\n", "line 1"),
    ],
)
def test_a_module_that_cannot_be_loaded_is_one_mistake_beside_the_others(
    module: str, text: str | None, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = site(tmp_path, imports=[module], penalty=-1)
    if text is not None:
        (tmp_path / module).write_text(text)
    assert run(["check", str(config), "--json"]) == 1
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [p["where"] for p in problems] == ["imports[0]", "penalty"]
    assert problems[0]["expected"].startswith("a module that can be loaded: ")
    assert expected in problems[0]["expected"]
    assert problems[0]["source"] == str(config)


@pytest.mark.parametrize("wrong", ["own_kiln.py", [3]])
def test_imports_are_a_list_of_names(wrong: object, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="imports"):
        read_setup(site(tmp_path, imports=wrong))


def package(folder: Path, text: str) -> None:
    """Lay out an installed package that brings the type Kiln as an entry point."""
    (folder / "packaged_kiln.py").write_text(text)
    info = folder / "packaged_kiln-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: packaged-kiln\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[heron.device_types]\nKiln = packaged_kiln:Kiln\n")


def test_a_type_of_an_installed_package_is_known_to_every_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, KILN)
    monkeypatch.syspath_prepend(tmp_path)
    read_setup("single_microgrid")
    assert "packaged_kiln" not in sys.modules  # nobody asked for it
    assert read_setup(site(tmp_path)).config.device("kiln").type == "Kiln"
    assert "Kiln" in DEVICE_REGISTRY


def test_a_package_that_cannot_be_loaded_is_one_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "raise RuntimeError('broken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_setup(site(tmp_path))
    (problem,) = caught.value.problems
    assert problem.where.endswith(".type")
    assert "packaged_kiln:Kiln of heron.device_types cannot be loaded" in problem.expected
    assert "RuntimeError: broken" in problem.expected


def test_what_is_optimal_does_not_depend_on_imports() -> None:
    plain = load_setup("single_microgrid")
    assert fingerprint(as_setup(plain)) == fingerprint(as_setup({**plain, "imports": ["json"]}))


def test_the_pages_own_device_is_known_to_the_setup_that_the_page_shows(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs" / "devices.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (shown,) = re.findall(r"^```yaml\n(# config.yml\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "electrolyser.py").write_text(code)
    page, raw = yaml.safe_load(shown), yaml.safe_load(site(tmp_path).read_text())
    raw["imports"] = page["imports"]
    raw["microgrid_configs"][0]["devices"] = page["microgrid_configs"][0]["devices"]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(raw))
    assert read_setup(tmp_path).config.device("h2").type == "Electrolyser"


def test_a_type_of_an_installed_package_may_stand_in_an_edges_site_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, KILN)
    monkeypatch.syspath_prepend(tmp_path)
    kiln = {"name": "kiln", "type": "Kiln", "link": "yard", "unit": 2, "config": {"p_rated_mw": 1}}
    links = [{"name": "yard", "address": "10.0.0.5:502"}]
    whole = {"site": "a", "broker": "mqtt://127.0.0.1:1883", "links": links, "devices": [kiln]}
    (device,) = SiteConfig.model_validate(whole).devices
    assert device.config.p_range_mw == (-1.0, 0.0)
