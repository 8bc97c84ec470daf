"""What the devices of many scenarios cost in a step, and what their stores are worth.

Does with arrays what each device's ``cost_usd`` does with one reading; a test holds the two to the
same figures.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from heron.powergrid.device_configs import (
    DAY_S,
    ControllableLoadConfig,
    DeviceConfig,
    EVChargerConfig,
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
    TransformerConfig,
)
from heron.powergrid.setups import Setup
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]


class DeviceCosts:
    """Running costs of all devices of a setup, and what happens once: starts, moves, departures.

    Attributes:
        capacity_mwh: (D,) of the stores whose energy belongs to the microgrid; 0 for others.
    """

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        entries = [config.device(d).device_state_config for d in config.device_ids]
        self._dt_s = config.step_s
        curves = [
            e.cost_curve_coefs if isinstance(e, GeneratorConfig) else (0.0, 0.0, 0.0)
            for e in entries
        ]
        self._fuel = np.array(curves, dtype=np.float64).T
        self._may_stop = _flags(entries, "unit_commitment", GeneratorConfig)
        self._start_usd = _column(entries, "startup_cost_usd", GeneratorConfig)
        self._wear = _column(entries, "degradation_usd_per_mwh", StorageConfig)
        self.capacity_mwh = _column(entries, "e_capacity_mwh", StorageConfig)
        self._curtailed = _column(entries, "curtailment_usd_per_mwh", InverterSourceConfig)
        self._unserved = _column(entries, "discomfort_usd_per_mwh", ControllableLoadConfig)
        self._tap_usd = _column(entries, "tap_cost_usd", TransformerConfig)
        self._cars = [(k, e) for k, e in enumerate(entries) if isinstance(e, EVChargerConfig)]

    def __call__(self, before: BatchMeasurements, after: BatchMeasurements) -> FloatArray:
        """Return what each device cost in the step, $, (N, D)."""
        p, h = after.p_mw, self._dt_s / 3600.0
        a, b, c = self._fuel
        runs = ~self._may_stop | (p > 0.0)
        running = np.where(runs, a * p * p + b * p + c, 0.0) + self._wear * np.abs(p)
        thrown_away = np.nan_to_num(np.maximum(after.available_mw - p, 0.0))
        not_served = np.nan_to_num(np.maximum(p - after.available_mw, 0.0))
        running = running + self._curtailed * thrown_away + self._unserved * not_served
        cost = running * h
        started = self._may_stop & (before.p_mw <= 0.0) & (p > 0.0)
        cost = cost + self._start_usd * started
        if self._tap_usd.any():
            cost = cost + self._tap_usd * np.nan_to_num(np.abs(after.tap - before.tap))
        for k, car in self._cars:
            cost[:, k] += self._short_of_charge(car, before.time_s, after.soc[:, k])
        return np.asarray(cost)

    def _short_of_charge(
        self, car: EVChargerConfig, time_s: FloatArray, soc: FloatArray
    ) -> FloatArray:
        """Return the cost of energy that a car lacks, where it leaves in this step."""
        left_s = np.mod(car.departure_hour * 3600.0 - time_s, DAY_S)
        leaves = np.where(left_s == 0.0, DAY_S, left_s) <= self._dt_s
        missing_mwh = np.maximum(0.0, car.soc_target - soc) * car.e_capacity_mwh
        return np.asarray(leaves * car.unserved_usd_per_mwh * missing_mwh)


def _column(entries: list[DeviceConfig], name: str, kind: type[DeviceConfig]) -> FloatArray:
    return np.array(
        [getattr(e, name) if isinstance(e, kind) else 0.0 for e in entries], dtype=np.float64
    )


def _flags(
    entries: list[DeviceConfig], name: str, kind: type[DeviceConfig]
) -> npt.NDArray[np.bool_]:
    return np.array([isinstance(e, kind) and bool(getattr(e, name)) for e in entries])
