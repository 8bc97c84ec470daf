"""Inverters that answer their own voltage or power, within a step of the plant.

Their answers take seconds (IEEE 1547-2018: 5 and 10 s), a step takes minutes: what counts is
where inverters and network come to rest together. That point is approached half way at a time,
because the full answer to each solved voltage can swing. What follows from a device's own active
power needs no such search.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from heron.powergrid.device_configs import DeviceConfig
from heron.powergrid.ieee1547 import InverterLimits
from heron.powergrid.inverter_functions import (
    AUTONOMOUS,
    InverterFunctions,
    answer_power,
    answer_voltage,
)
from heron.powergrid.quantities import ClipReason
from heron.powergrid.setups import SetupConfig
from simulator.fleet import BoolArray, FloatArray, IntArray
from simulator.physics import BIT
from simulator.physics.rules import TOLERANCE

ROUNDS = 12
"""Solves in which inverters and network come to rest: the rest of a swing is then below 1e-3
of its start even where a full answer would only just not grow."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Inverters with the same functions."""

    functions: InverterFunctions
    at: IntArray
    limits: InverterLimits


class AutonomousInverters:
    """The devices of a setup with functions of their own.

    Args:
        config: The setup, whose ``autonomous`` switches functions on.
        commanded: Functions that masters have switched on, by device; they replace the setup's.

    Attributes:
        rounds: Solves that it takes until inverters and network are at rest; 0 for none.
        off: (n_devices,) who is kept off the grid; None for nobody.
    """

    def __init__(
        self, config: SetupConfig, commanded: Mapping[str, InverterFunctions] | None = None
    ) -> None:
        self.commanded = dict(commanded or {})
        devices = [config.device(d).device_state_config for d in config.device_ids]
        chosen = [
            self.commanded.get(name, AUTONOMOUS[_mode(device)])
            for name, device in zip(config.device_ids, devices, strict=True)
        ]
        self._groups = [
            _Group(functions, at, InverterLimits.of(*(devices[k] for k in at)))
            for functions in dict.fromkeys(chosen)
            if functions.by_voltage or functions.by_power
            for at in [np.flatnonzero([f == functions for f in chosen])]
        ]
        self.rounds = ROUNDS if any(g.functions.by_voltage for g in self._groups) else 0
        self.follows_power = any(g.functions.by_power for g in self._groups)
        off = np.array([not f.connected for f in chosen], dtype=bool)
        self.off: BoolArray | None = off if off.any() else None

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
        p_mw, q_mvar = now[0].copy(), now[1].copy()
        for group in self._groups:
            if not group.functions.by_voltage:
                continue
            at = group.at
            phases = phases_v_pu[..., at, :]
            present = np.isfinite(phases)
            count = np.maximum(present.sum(axis=-1), 1)
            v_pu = np.where(present, phases, 0.0).sum(axis=-1) / count
            v_pu = np.where(present.any(axis=-1), v_pu, 1.0)
            p_wanted, q_wanted = answer_voltage(
                group.functions, group.limits, v_pu, asked[0][..., at], asked[1][..., at]
            )
            p_mw[..., at] = 0.5 * (p_mw[..., at] + p_wanted)
            if group.functions.reactive is not None:
                q_mvar[..., at] = 0.5 * (q_mvar[..., at] + q_wanted)
        return p_mw, q_mvar

    def follow(self, p_mw: FloatArray, q_set_mvar: FloatArray) -> FloatArray:
        """Return the reactive set-points that follow from active powers, (..., n_devices)."""
        q_mvar = q_set_mvar.copy()
        for group in self._groups:
            rule = group.functions.reactive
            if rule is not None and group.functions.by_power:
                q_mvar[..., group.at] = answer_power(rule, group.limits, p_mw[..., group.at])
        return q_mvar

    def reasons(
        self, asked: tuple[FloatArray, FloatArray], now: tuple[FloatArray, FloatArray]
    ) -> IntArray | int:
        """Return `DEVICE_RULE` where an inverter does something else than it was asked."""
        if not self._groups:
            return 0
        changed = np.abs(now[0] - asked[0]) + np.abs(now[1] - asked[1]) > 2.0 * TOLERANCE
        return changed * BIT[ClipReason.DEVICE_RULE]


def _mode(config: DeviceConfig) -> str:
    return str(getattr(config, "autonomous", "off"))
