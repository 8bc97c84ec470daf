"""IEEE 1547-2018 volt-var and volt-watt as a policy: what the standard's default curves do."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.policy.baselines import VOLTAGE, Baseline
from heron.policy.codec import FloatArray
from heron.powergrid.device_configs import GeneratorConfig
from heron.powergrid.ieee1547 import autonomous_setpoint
from heron.powergrid.setups import MicrogridConfig


class VoltVarPolicy(Baseline):
    """Every inverter on the standard's category B curves, generators at their minimum.

    Stores rest and sources run free but for volt-watt. The curves answer the voltage of the
    step before, which is what a coordinator sees.

    Args:
        codec: Of the coordinator.
        microgrid: Its configuration.
    """

    def __init__(self, codec: PolicyCodec, microgrid: MicrogridConfig) -> None:
        super().__init__(codec)
        configs = {d.name: d.device_state_config for d in microgrid.devices}
        self._inverters = {
            name: (config, self._position(name, VOLTAGE))
            for name, config in configs.items()
            if not isinstance(config, GeneratorConfig)
        }

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Return the curves' action."""
        x = np.asarray(obs, dtype=np.float32)
        action = self._idle.copy()
        for i, spec in enumerate(self._codec.setpoints):
            config, position = self._inverters.get(spec.agent, (None, None))
            if config is None or position is None or spec.quantity not in ("p_mw", "q_mvar"):
                continue
            v_pu = self._value(x, position, 1.0)
            rest = spec.decode(float(self._idle[i])) if spec.quantity == "p_mw" else None
            p_mw = self._rest_mw(spec.agent) if rest is None else rest
            setpoint = autonomous_setpoint(config, v_pu, p_mw)
            action[i] = spec.encode(getattr(setpoint, spec.quantity))
        return action

    def _rest_mw(self, device: str) -> float:
        """Return the active power that a device has at rest."""
        for i, spec in enumerate(self._codec.setpoints):
            if (spec.agent, spec.quantity) == (device, "p_mw"):
                return spec.decode(float(self._idle[i]))
        return 0.0
