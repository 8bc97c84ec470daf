import json
from typing import Any

import jsonschema
import pytest
import yaml

from heron.powergrid.setups import get_available_setups
from heron.powergrid.setups.loader import SETUPS_DIR
from heron.powergrid.setups.schema import SCHEMA_PATH, json_schema_text

SCHEMA = json.loads(SCHEMA_PATH.read_text())


def raw(name: str) -> Any:
    return yaml.safe_load((SETUPS_DIR / name / "config.yml").read_text())


def test_shipped_schema_is_that_of_the_models() -> None:
    assert SCHEMA_PATH.read_text() == json_schema_text()


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", get_available_setups())
def test_every_shipped_setup_fits(name: str) -> None:
    jsonschema.validate(raw(name), SCHEMA)


@pytest.mark.parametrize(
    ("key", "value"), [("p_maxMW", 1.0), ("p_max_MW", -1.0), ("soc_min", 0.1), ("bus", 7)]
)
def test_wrong_device_key_is_found(key: str, value: object) -> None:
    config = raw("ieee34_ieee13")
    config["microgrid_configs"][0]["devices"][0]["device_state_config"][key] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)


@pytest.mark.parametrize("spelling", ["p_rated_MW", "p_rated_mw", "p_max_MW"])
def test_each_spelling_of_a_needed_key_will_do(spelling: str) -> None:
    config = raw("ieee34_ieee13")
    device = config["microgrid_configs"][0]["devices"][2]["device_state_config"]
    device[spelling] = device.pop("p_rated_MW")
    jsonschema.validate(config, SCHEMA)
    device.pop(spelling)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config, SCHEMA)
