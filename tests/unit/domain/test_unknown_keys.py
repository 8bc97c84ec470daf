"""A microgrid that is built from a mapping refuses keys that it would otherwise ignore."""

from __future__ import annotations

from typing import Any

import pytest

from heron.errors import ConfigError
from heron.powergrid.agents import PowerGridAgent

DEVICE: dict[str, Any] = {"type": "ESS", "name": "e", "device_state_config": {"bus": "1"}}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"devises": [DEVICE]}, r"MG1\.devises"),
        ({"devices": [DEVICE], "load_scal": 0.3}, r"MG1\.load_scal = 0\.3"),
        ({"devices": [DEVICE | {"nam": "f"}]}, r"MG1\.devices\[0\]\.nam = 'f'"),
        ({"devices": [DEVICE | {"device_state_config": {"bus": "1", "capacty": 3}}]}, "capacty"),
        ({"devices": [DEVICE | {"type": "Reactor"}]}, "type = 'Reactor'"),
        ({"devices": [DEVICE, DEVICE]}, r"MG1\.devices = 'e'"),
    ],
)
def test_an_unknown_key_type_or_a_name_used_twice_is_refused_by_name(
    config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        PowerGridAgent(grid_config={"name": "MG1", **config})
