from pathlib import Path

import numpy as np
import pytest
import yaml

from heron.errors import ConfigError
from heron.powergrid.device_configs import PVConfig
from heron.powergrid.setups import (
    as_setup,
    device_profile_name,
    get_available_setups,
    load_profile_names,
    load_setup,
    profiles_from,
    read_setup,
)

GUIDE = """
train: true
penalty: 10.0
share_reward: true
max_episode_steps: 96  # 4 days
dso_config:
  name: DSO
  network: ieee34
  load_area: BANC
microgrid_configs:
  - name: MG1
    connection_bus: "DSO Bus 850"
    base_power: 1.0
    load_scale: 0.1
    devices:
      - type: Generator
        name: gen1
        device_state_config:
          bus: "Bus 633"
          p_max_MW: 2.0
          p_min_MW: 0.5
          cost_curve_coefs: [0.02, 10.0, 0.0]
      - type: ESS
        name: ess1
        device_state_config:
          bus: "Bus 634"
          e_capacity_MWh: 5.0
          p_max_MW: 1.0
          p_min_MW: -1.0
          init_soc: 0.5
  - name: MG2
    connection_bus: "DSO Bus 860"
    devices:
      - type: Generator
        name: gen2
        device_state_config:
          bus: "Bus 633"
          p_max_MW: 1.5
          p_min_MW: 0.3
  - name: MG3
    connection_bus: "DSO Bus 890"
    devices:
      - type: ESS
        name: ess3
        device_state_config:
          bus: "Bus 680"
          e_capacity_MWh: 3.0
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yml"
    path.write_text(text)
    return path


def problems_of(path: Path) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        read_setup(path)
    assert all(p.source in {"", str(path)} for p in caught.value.problems)
    return {p.where: p.expected for p in caught.value.problems}


@pytest.mark.parametrize("name", get_available_setups())
def test_every_shipped_setup_loads(name: str) -> None:
    setup = read_setup(name)
    assert setup.config.name == name
    assert setup.path is not None
    assert setup.path.parent.name == name


def test_guide_setup_is_available_and_has_its_devices() -> None:
    assert "ieee34_ieee13" in get_available_setups()
    config = read_setup("ieee34_ieee13").config
    assert config.microgrid_ids == ("MG1", "MG2", "MG3")
    assert config.device_ids == ("gen1", "ess1", "pv1", "gen2", "pv2", "ess3", "pv3")


def test_guides_own_config_loads(tmp_path: Path) -> None:
    setup = read_setup(write(tmp_path, GUIDE))
    assert setup.config.device("ess3").device_state_config.p_range_mw == (-1.0, 1.0)
    assert setup.config.dso_config.load_area == "BANC"


def test_guides_pickle_is_refused_by_name(tmp_path: Path) -> None:
    found = problems_of(write(tmp_path, "dataset_path: data.pkl\n" + GUIDE))
    assert list(found) == ["dataset_path"]
    assert "pickled data are never read" in found["dataset_path"]


def test_plain_dictionary_can_be_changed_and_checked_again() -> None:
    plain = load_setup("ieee34_ieee13")
    assert plain["microgrid_configs"][0]["devices"][0]["device_state_config"]["p_max_MW"] == 1.0
    plain.update({"train": False, "max_episode_steps": 24})
    setup = as_setup(plain)
    assert (setup.config.train, setup.config.max_episode_steps) == (False, 24)
    assert setup.profiles is plain["dataset"]


def test_two_loads_do_not_share_anything_that_changes() -> None:
    load_setup("ieee34_ieee13")["microgrid_configs"].clear()
    assert len(load_setup("ieee34_ieee13")["microgrid_configs"]) == 3


def test_setup_passes_through_and_config_object_is_taken() -> None:
    setup = read_setup("ieee34_ieee13")
    assert as_setup(setup) is setup
    again = as_setup(setup.config)
    assert again.config == setup.config


def test_own_columns_can_be_given_as_the_data_set() -> None:
    plain = load_setup("ieee34_ieee13")
    columns = {name: plain["dataset"][name] for name in plain["dataset"].names}
    plain["dataset"] = {**columns, "price": np.full(366 * 96, 7.0)}
    assert as_setup(plain).profiles.mean("price", 0.0, 3600.0) == pytest.approx(7.0)


def test_nested_data_set_is_refused_with_the_form_that_is_expected() -> None:
    plain = load_setup("ieee34_ieee13")
    plain["dataset"] = {"train": {"load": [1.0]}, "test": {}}
    with pytest.raises(ConfigError, match="mapping of column name"):
        as_setup(plain)


def test_every_config_mistake_is_reported_at_once() -> None:
    plain = load_setup("ieee34_ieee13")
    first, second, third = (m["devices"] for m in plain["microgrid_configs"])
    first[0]["device_state_config"]["p_maxMW"] = 3.0
    first[1]["name"] = "9x"
    first[1]["device_state_config"].update(soc_min=3.0, ch_eff=0.0)
    second[0]["device_state_config"]["p_min_MW"] = 2.0
    second[1]["type"] = "Reactor"
    third[1]["device_state_config"]["p_rated_MW"] = float("nan")
    plain["penalty"] = -1
    plain["dso_config"]["sorce_v_pu"] = 1.0
    with pytest.raises(ConfigError) as caught:
        as_setup(plain)
    at = "microgrid_configs[{}].devices[{}]".format
    assert {p.where for p in caught.value.problems} == {
        "penalty",
        "dso_config.sorce_v_pu",
        f"{at(0, 0)}.device_state_config.p_maxMW",
        f"{at(0, 1)}.name",
        f"{at(0, 1)}.device_state_config.soc_min",
        f"{at(0, 1)}.device_state_config.ch_eff",
        f"{at(1, 0)}.device_state_config.p_min_mw, p_max_mw",
        f"{at(1, 0)}.device_state_config.s_max_mva",
        f"{at(1, 1)}.type",
        f"{at(2, 1)}.device_state_config.p_rated_MW",
    }


def test_unknown_profiles_are_named_with_their_keys() -> None:
    plain = load_setup("ieee34_ieee13")
    plain["price_profile"] = "lmp"
    plain["dso_config"]["load_profiles"] = ["mv_rural", "mv_rual"]
    plain["microgrid_configs"][0]["devices"][2]["device_state_config"]["profile"] = "PV9"
    with pytest.raises(ConfigError) as caught:
        as_setup(plain)
    assert [p.where for p in caught.value.problems] == [
        "price_profile",
        "dso_config.load_profiles[1]",
        "microgrid_configs[0].devices[2].device_state_config.profile",
    ]


def test_names_used_twice_are_refused(tmp_path: Path) -> None:
    raw = yaml.safe_load(GUIDE)
    raw["microgrid_configs"][1]["devices"][0]["name"] = "gen1"
    raw["microgrid_configs"][2]["name"] = "MG1"
    found = problems_of(write(tmp_path, yaml.safe_dump(raw)))
    assert list(found) == ["microgrid_configs[1].devices[0].name", "microgrid_configs[2].name"]
    assert "'gen1' is used twice" in found["microgrid_configs[1].devices[0].name"]
    raw["penalty"] = "much"
    assert len(problems_of(write(tmp_path, yaml.safe_dump(raw)))) == 3


@pytest.mark.parametrize("name", ["head", "all", "simulator"])
def test_names_that_stand_for_something_else_are_refused(tmp_path: Path, name: str) -> None:
    raw = yaml.safe_load(GUIDE)
    raw["dso_config"]["name"] = raw["microgrid_configs"][2]["name"] = name
    raw["microgrid_configs"][0]["devices"][0]["name"] = name
    raw["microgrid_configs"][2]["connection_bus"] = f"{name} Bus 860"
    found = problems_of(write(tmp_path, yaml.safe_dump(raw)))
    assert list(found) == [
        "dso_config.name",
        "microgrid_configs[0].devices[0].name",
        "microgrid_configs[2].name",
    ]
    assert all(f"another name; {name!r} is" in expected for expected in found.values())


def test_yes_and_no_are_no_numbers(tmp_path: Path) -> None:
    raw = yaml.safe_load(GUIDE)
    raw |= {"penalty": True, "step_s": True, "v_limits_pu": [False, 1.05], "seed": True}
    raw["dso_config"] |= {"load_scale": True, "bus_load_scale": {"Bus 830": True}}
    raw["microgrid_configs"][0]["devices"][0]["device_state_config"] |= {
        "p_max_MW": True,
        "cost_curve_coefs": [True, 1, 2],
        "unit_commitment": True,
    }
    found = problems_of(write(tmp_path, yaml.safe_dump(raw)))
    keys = {where.rsplit(".", 1)[-1].lower() for where in found}
    assert keys >= {"penalty", "step_s", "v_limits_pu", "seed", "load_scale", "bus_load_scale"}
    assert keys >= {"p_max_mw", "cost_curve_coefs"}
    assert len(found) == 8  # a switch may be one
    assert all("a number, not true or false" in expected for expected in found.values())


def test_safe_set_point_that_a_device_cannot_carry_out_is_refused() -> None:
    plain = load_setup("ieee34_ieee13")
    plain["microgrid_configs"][0]["devices"][0]["device_state_config"]["safe_p_mw"] = 5.0
    plain["microgrid_configs"][0]["devices"][1]["device_state_config"]["safe_q_mvar"] = -0.4
    with pytest.raises(ConfigError) as caught:
        as_setup(plain)
    at = "microgrid_configs[0].devices[{}].device_state_config.{}".format
    assert [(p.where, p.expected) for p in caught.value.problems] == [
        (at(0, "safe_p_mw"), "within the device's range, 0 to 1"),
        (at(1, "safe_q_mvar"), "within the device's range, -0.18 to 0.18"),
    ]


def test_limits_that_cross_are_all_reported() -> None:
    plain = load_setup("ieee34_ieee13")
    _, ess, pv = (d["device_state_config"] for d in plain["microgrid_configs"][0]["devices"])
    ess.update(soc_min=0.9, soc_max=0.1)
    pv.update(q_min_MVAr=0.3, q_max_MVAr=-0.3)
    plain["v_limits_pu"] = [1.05, 0.95]
    with pytest.raises(ConfigError) as caught:
        as_setup(plain)
    assert len(caught.value.problems) == 3
    assert all("low" in p.expected for p in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "where", "expected"),
    [
        ("penalty: 1\npenalty: 2\n", "line 2, column 1", "the key 'penalty' stands twice"),
        ("dso_config: [1,\n", "line 2, column 1", "expected the node content"),
        ("- 1\n", "(all)", "a mapping of keys"),
        ("? [a, b]\n: 1\n", "line 1, column 3", "found unhashable key"),
        ("", "(all)", "a mapping of keys"),
        ("penalty: 2001-99-99\n", "(all)", "month must be in 1..12"),
        ("penalty: !!int\n", "(all)", "index out of range"),
        ("penalty: !!bool maybe\n", "(all)", "'maybe'"),
        ("penalty: a\0b\n", "(all)", "special characters are not allowed in"),
        (20_000 * "[", "(all)", "YAML nested less deeply"),
    ],
    ids=["twice", "open", "list", "key", "empty", "date", "no_int", "no_bool", "control", "deep"],
)
def test_broken_yaml_names_file_and_place(
    tmp_path: Path, text: str, where: str, expected: str
) -> None:
    found = problems_of(write(tmp_path, text))
    assert list(found) == [where]
    assert expected in found[where]


def test_missing_setup_names_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="ieee34_ieee13"):
        read_setup("ieee99")


def test_source_without_profile_follows_the_usual_column() -> None:
    year = {"price": np.zeros(35_136), "PV1": np.zeros(35_136)}
    source = PVConfig(bus="Bus 675", p_rated_mw=1.0)
    assert device_profile_name(source, profiles_from(year)) == "PV1"
    assert device_profile_name(source, profiles_from({**year, "solar": year["PV1"]})) == "solar"


def test_area_without_profiles_takes_its_load_area_then_load_then_none(tmp_path: Path) -> None:
    config = read_setup(write(tmp_path, GUIDE)).config
    price = np.zeros(35_136)
    assert load_profile_names(config, profiles_from({"price": price}), "MG1") == (None,)
    some = profiles_from({"price": price, "load": price, "BANC": price})
    assert load_profile_names(config, some, "MG1") == ("load",)
    assert load_profile_names(config, some, "DSO") == ("BANC",)
