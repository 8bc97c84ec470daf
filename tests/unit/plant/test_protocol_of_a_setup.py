"""A setup says how its site coordinates, and is checked for it when it is read."""

import json
from pathlib import Path

import pytest
import yaml

from heron.cli.setups import run
from heron.errors import ConfigError
from heron.powergrid.agents import SCHEMES, scheme_of
from heron.powergrid.plans import fingerprint
from heron.powergrid.setups import (
    check_setup,
    get_available_setups,
    load_setup,
    read_setup,
    stated_protocol,
)
from heron.powergrid.setups.coordination import ALIASES, PROTOCOLS
from heron.powergrid.setups.loader import SETUPS_DIR

OWN = "from heron.protocols import SetpointProtocol\n\n\nclass Mine(SetpointProtocol):\n    pass\n"


def site(folder: Path, protocol: object) -> Path:
    raw = yaml.safe_load((SETUPS_DIR / "single_microgrid" / "config.yml").read_text())
    raw.pop("dataset_path", None)
    file = folder / "config.yml"
    file.write_text(yaml.safe_dump({**raw, "protocol": protocol}))
    return file


def test_every_name_that_a_setup_may_say_is_a_scheme_and_every_scheme_has_a_name() -> None:
    assert tuple(SCHEMES) == PROTOCOLS
    assert set(ALIASES.values()) <= set(PROTOCOLS)


def test_setups_that_say_nothing_coordinate_by_setpoints_and_stay_what_they_were() -> None:
    for name in get_available_setups():
        assert stated_protocol(name) == read_setup(name).config.protocol == "setpoint"
        assert "protocol" not in load_setup(name)


def test_what_is_optimal_does_not_depend_on_the_protocol() -> None:
    setup = read_setup("single_microgrid")
    assert fingerprint(setup.under("p2p")) == fingerprint(setup)


@pytest.mark.parametrize("name", [*PROTOCOLS, *ALIASES])
def test_a_setup_names_a_protocol_that_ships(name: str, tmp_path: Path) -> None:
    file = site(tmp_path, name)
    assert read_setup(file).config.protocol == stated_protocol(tmp_path) == name
    assert load_setup(file)["protocol"] == name
    assert check_setup(file) == []


def test_another_protocol_takes_the_place_of_the_setups_own(tmp_path: Path) -> None:
    setup = read_setup(site(tmp_path, "p2p"))
    assert setup.under("price").config.protocol == "price"
    assert setup.under(None) is setup


@pytest.mark.parametrize("wrong", ["barter", "p2p.py:", ":X", ""])
def test_an_unknown_protocol_is_refused_when_the_setup_is_read(wrong: str, tmp_path: Path) -> None:
    file = site(tmp_path, wrong)
    for read in (read_setup, load_setup, stated_protocol):
        with pytest.raises(ConfigError) as caught:
            read(file)
        (problem,) = caught.value.problems
        assert (problem.where, problem.value, problem.source) == ("protocol", wrong, str(file))
        assert problem.expected.startswith("one of setpoint, price, p2p, consensus, system")


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("barter", "one of setpoint, price, p2p, consensus, system"),
        (["p2p"], "valid string"),
        ("no_such_module:Mine", "a module that can be loaded"),
        ("missing.py:Mine", "a module that can be loaded"),
        ("mine.py:Yours", "a Protocol class or a Scheme"),
    ],
)
def test_check_names_file_key_and_reason_once(
    protocol: object, expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    file = site(tmp_path, protocol)
    assert run(["check", str(file), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert (problem["source"], problem["where"]) == (str(file), "protocol")
    assert expected in problem["expected"]


def test_a_protocol_of_ones_own_is_found_beside_the_setup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "mine.py").write_text(OWN)
    file = site(folder, "mine.py:Mine")
    monkeypatch.chdir(tmp_path)
    stated = stated_protocol("site")
    assert stated == f"{(folder / 'mine.py').resolve()}:Mine"
    assert read_setup(file).config.protocol == load_setup(file)["protocol"] == stated
    assert run(["check", str(file)]) == 0
    assert scheme_of(stated).name == stated
