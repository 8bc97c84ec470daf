"""A microgrid that is built from a mapping refuses keys that it would otherwise ignore."""

from __future__ import annotations

from typing import Any

import pytest

from heron.errors import ConfigError
from heron.powergrid.agents import ESS, PowerGridAgent

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
        ({"devices": ["gen"]}, r"MG1\.devices\[0\] = 'gen': a mapping"),
        ({"devices": [{"type": "ESS"}]}, r"MG1\.devices\[0\]\.name = None"),
        ({"devices": [DEVICE], "transformer": {"s_kvaa": 5}}, r"MG1\.transformer: s_kvaa = 5"),
        ({"devices": [DEVICE], "transformer": {"s_kva": -5}}, r"MG1\.transformer: s_kva = -5"),
    ],
)
def test_an_unknown_key_type_or_a_name_used_twice_is_refused_by_name(
    config: dict[str, Any], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        PowerGridAgent(grid_config={"name": "MG1", **config})


@pytest.mark.parametrize("dt_s", [-1.0, 0.0, float("nan"), float("inf")])
def test_a_control_interval_that_is_none_is_refused(dt_s: float) -> None:
    with pytest.raises(ConfigError, match="MG1: dt_s"):
        PowerGridAgent(grid_config={"name": "MG1", "devices": [DEVICE]}, dt_s=dt_s)
    with pytest.raises(ConfigError, match="e: dt_s"):
        ESS("e", device_state_config={"bus": "1"}, dt_s=dt_s)
