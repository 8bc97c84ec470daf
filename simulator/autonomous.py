"""Inverters that answer their own voltage, within a step of the plant.

Their answers take seconds (IEEE 1547-2018: 5 and 10 s), a step takes minutes: what counts is
where inverters and network come to rest together. That point is approached half way at a time,
because the full answer to each solved voltage can swing.
"""

from __future__ import annotations

import numpy as np

from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.ieee1547 import VOLT_WATT_B, InverterLimits, autonomous_power
from heron.powergrid.quantities import ClipReason
from heron.powergrid.setups import SetupConfig
from simulator.fleet import FloatArray, IntArray
from simulator.physics import BIT
from simulator.physics.base import TOLERANCE

ROUNDS = 12
"""Solves in which inverters and network come to rest: the rest of a swing is then below 1e-3
of its start even where a full answer would only just not grow."""


class AutonomousInverters:
    """The devices of a setup whose configuration has an ``autonomous`` mode."""

    def __init__(self, config: SetupConfig) -> None:
        devices = [config.device(d).device_state_config for d in config.device_ids]
        modes = [_mode(device) for device in devices]
        self._at = np.flatnonzero([mode != "off" for mode in modes])
        chosen = [devices[k] for k in self._at]
        self._watt = np.array([modes[k] == "volt_var_volt_watt" for k in self._at])
        self.rounds = ROUNDS if chosen else 0
        self._limits = InverterLimits.of(*chosen) if chosen else None

    def answer(
        self,
        phases_v_pu: FloatArray,
        asked: tuple[FloatArray, FloatArray],
        now: tuple[FloatArray, FloatArray],
    ) -> tuple[FloatArray, FloatArray]:
        """Move half way to what the inverters want at a voltage.

        Args:
            phases_v_pu: (..., n_devices, 3) phase voltages; NaN where there is no phase.
            asked: (..., n_devices) active and reactive set-points from outside.
            now: (..., n_devices) the set-points that led to this voltage.

        Returns:
            The next set-points (MW, Mvar); those of other devices as they were.
        """
        if self._limits is None:
            return now
        at = self._at
        phases = phases_v_pu[..., at, :]
        present = np.isfinite(phases)
        count = np.maximum(present.sum(axis=-1), 1)
        v_pu = np.where(present, phases, 0.0).sum(axis=-1) / count
        v_pu = np.where(present.any(axis=-1), v_pu, 1.0)
        p_asked = asked[0][..., at]
        p_free, q_wanted = autonomous_power(self._limits, v_pu, p_asked, volt_watt_curve=None)
        p_cut, _ = autonomous_power(self._limits, v_pu, p_asked, volt_watt_curve=VOLT_WATT_B)
        p_wanted = np.where(self._watt, p_cut, p_free)
        p_mw, q_mvar = now[0].copy(), now[1].copy()
        p_mw[..., at] = 0.5 * (p_mw[..., at] + p_wanted)
        q_mvar[..., at] = 0.5 * (q_mvar[..., at] + q_wanted)
        return p_mw, q_mvar

    def reasons(
        self, asked: tuple[FloatArray, FloatArray], now: tuple[FloatArray, FloatArray]
    ) -> IntArray | int:
        """Return `DEVICE_RULE` where an inverter does something else than it was asked."""
        if self._limits is None:
            return 0
        changed = np.abs(now[0] - asked[0]) + np.abs(now[1] - asked[1]) > 2.0 * TOLERANCE
        return changed * BIT[ClipReason.DEVICE_RULE]


def _mode(config: DeviceConfig) -> str:
    return str(getattr(config, "autonomous", "off"))
