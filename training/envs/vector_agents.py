"""The agents' part of a step for many scenarios at once: observations and accounts.

Each class does with arrays what the agents, the envelope and the accountant do with objects; a
test holds them to the same figures. What a setup may contain beyond that is refused when the
vector environment is built.

Shapes: N scenarios, D devices and M microgrids in the order of the setup.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.errors import ConfigError, ConfigProblem
from heron.policy import PolicyCodec
from heron.powergrid.accounting import STORED_ENERGY_VALUE, lasts_several_days
from heron.powergrid.device_configs import (
    DEVICE_CONFIGS,
    DeviceConfig,
    EVChargerConfig,
    InverterSourceConfig,
    StorageConfig,
    TransformerConfig,
)
from heron.powergrid.features import LastAction, MarketSignal, TimeOfDay
from heron.powergrid.features.timing import field_of
from heron.powergrid.setups import Setup, SetupConfig, price_outlook
from heron.powergrid.setups.coordination import SETPOINT
from heron.powergrid.storage_worth import Store
from simulator.batch_plant import BatchMeasurements
from training.envs.vector_costs import DeviceCosts
from training.envs.vector_worth import StoreSignals

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_S = 86_400.0
_SUPPORTED = frozenset(DEVICE_CONFIGS.values())


def require_supported(setup: Setup) -> None:
    """Refuse what the arrays do not cover.

    Raises:
        ConfigError: A device is of a type, or a connection has limits, or the agents coordinate
            by a protocol, that only single environments know.
    """
    problems = []
    if setup.config.protocol != SETPOINT:
        expected = f"{SETPOINT}, or one environment at a time: train with --no-batched"
        problems.append(ConfigProblem("protocol", setup.config.protocol, expected))
    for microgrid in setup.config.microgrid_configs:
        if microgrid.limits.given:
            expected = "no limits at its connection; train with --no-batched"
            problems.append(ConfigProblem(microgrid.name, microgrid.limits, expected))
        for entry in microgrid.devices:
            config = entry.device_state_config
            where = f"{microgrid.name}.{entry.name}"
            if type(config) not in _SUPPORTED:
                expected = f"one of {', '.join(DEVICE_CONFIGS)}; train with --no-batched"
                problems.append(ConfigProblem(where, entry.type, expected))
    if problems:
        raise ConfigError(problems)


def told_columns(codec: PolicyCodec) -> tuple[IntArray, IntArray]:
    """Return where an observation holds what was told last, and by which numbers of the action."""
    said = {(s.agent, field_of(s.quantity)): k for k, s in enumerate(codec.setpoints)}
    pairs = [
        (i, said[f.agent, f.field])
        for i, f in enumerate(codec.fields)
        if f.feature == LastAction.feature_name
    ]
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0], columns[:, 1]


class Observer:
    """Observations of all agents, as their codecs would encode them.

    What depends on the time alone is looked up in a table that the features themselves filled;
    what is measured is computed; what never changes is taken from a single environment.
    """

    def __init__(
        self,
        setup: Setup,
        codecs: Mapping[str, PolicyCodec],
        constant: Mapping[str, npt.NDArray[np.float32]],
        example: BatchMeasurements,
    ) -> None:
        """Find where each field comes from.

        Args:
            setup: The setup.
            codecs: Codec per agent, in the order of the microgrids.
            constant: An observation per agent from a single environment.
            example: Any measurements.
        """
        config = setup.config
        self._step_s = config.step_s
        signals = _store_signals(setup)
        self._microgrids = [_Microgrid.of(config, name, signals) for name in codecs]
        self._codecs = codecs
        self._constant = constant
        columns, self._timetable = _timetable(setup)
        self._timed: dict[str, tuple[IntArray, IntArray]] = {}
        self._measured: dict[str, list[tuple[int, str]]] = {}
        for microgrid, (agent, codec) in zip(self._microgrids, codecs.items(), strict=True):
            known = microgrid.measured(example)
            paths = [f.path for f in codec.fields]
            own = [p.removeprefix(f"{agent}.") for p in paths]
            at = [i for i, name in enumerate(own) if name in columns]
            picked = [columns[own[i]] for i in at]
            self._timed[agent] = (np.array(at, np.int64), np.array(picked, np.int64))
            self._measured[agent] = [(i, p) for i, p in enumerate(paths) if p in known]

    def __call__(self, seen: BatchMeasurements) -> dict[str, npt.NDArray[np.float32]]:
        """Return each agent's observations, (N, obs_dim)."""
        steps = np.rint(seen.time_s / self._step_s).astype(np.int64) % len(self._timetable)
        timed = self._timetable[steps]
        out: dict[str, npt.NDArray[np.float32]] = {}
        for microgrid, (agent, codec) in zip(self._microgrids, self._codecs.items(), strict=True):
            obs = np.repeat(self._constant[agent][None, :], len(steps), axis=0)
            scale = codec.scale
            at, columns = self._timed[agent]
            obs[:, at] = timed[:, columns] / scale[at]
            values = microgrid.measured(seen)
            for position, path in self._measured[agent]:
                obs[:, position] = values[path] / scale[position]
            out[agent] = obs
        return out


@dataclass(frozen=True, slots=True)
class _Microgrid:
    """Where a coordinator's measured fields come from."""

    name: str
    index: int
    rating_mva: float
    devices: tuple[tuple[str, int, DeviceConfig], ...]
    signals: Mapping[str, StoreSignals]

    @classmethod
    def of(cls, config: SetupConfig, name: str, signals: Mapping[str, StoreSignals]) -> _Microgrid:
        index = config.microgrid_ids.index(name)
        microgrid = config.microgrid_configs[index]
        transformer = microgrid.transformer
        rating_mva = np.inf if transformer is None else transformer.s_kva / 1000.0
        devices = tuple(
            (d.name, config.device_ids.index(d.name), d.device_state_config)
            for d in microgrid.devices
        )
        return cls(name, index, float(rating_mva), devices, signals)

    def measured(self, seen: BatchMeasurements) -> dict[str, FloatArray]:
        """Return the measured fields by their path, (N,) each."""
        at = [k for _, k, _ in self.devices]
        p, q = seen.meter_p_mw[:, 1 + self.index], seen.meter_q_mvar[:, 1 + self.index]
        meter_v = seen.meter_v_pu[:, 1 + self.index]
        there = seen.connected[:, at]
        lowest = np.where(there, seen.v_pu[:, at, 1], np.inf).min(axis=1)
        highest = np.where(there, seen.v_pu[:, at, 2], -np.inf).max(axis=1)
        v_min = np.minimum(meter_v[:, 1], lowest)
        v_max = np.maximum(meter_v[:, 2], highest)
        name = self.name
        out = {
            f"{name}.BusVoltages.v_min": v_min,
            f"{name}.BusVoltages.v_max": v_max,
            f"{name}.LineFlows.max_loading_norm": np.hypot(p, q) / self.rating_mva,
            f"{name}.NetworkMetrics.p_MW": p,
            f"{name}.NetworkMetrics.q_MVAr": q,
            f"{name}.NetworkMetrics.load_MW": seen.p_mw[:, at].sum(axis=1) - p,
            f"{name}.NetworkMetrics.dv_min_pu": v_min - 1.0,
            f"{name}.NetworkMetrics.dv_max_pu": v_max - 1.0,
        }
        for device, k, config in self.devices:
            out[f"{device}.ElectricalBasePh.p_MW"] = seen.p_mw[:, k]
            out[f"{device}.ElectricalBasePh.q_MVAr"] = seen.q_mvar[:, k]
            out[f"{device}.ElectricalBasePh.v_pu"] = seen.v_pu[:, k, 0]
            out[f"{device}.StatusBlock.in_service"] = seen.connected[:, k].astype(np.float64)
            if isinstance(config, TransformerConfig):
                out[f"{device}.TapChangerPh.tap_position"] = seen.tap[:, k]
                out[f"{device}.ThermalLoading.loading_pct"] = np.nan_to_num(seen.loading_pct[:, k])
            if isinstance(config, (StorageConfig, EVChargerConfig)):
                out[f"{device}.StorageBlock.soc"] = seen.soc[:, k]
                stored = seen.soc[:, k] * config.e_capacity_mwh
                out[f"{device}.StorageBlock.e_stored_MWh"] = stored
            if isinstance(config, StorageConfig):
                for field, value in self.signals[device](seen.time_s, seen.soc[:, k]).items():
                    out[f"{device}.StorageWorth.{field}"] = value
            if isinstance(config, InverterSourceConfig):
                out[f"{device}.InverterBasedSource.output"] = seen.p_mw[:, k] / config.p_rated_mw
        return out


@dataclass(frozen=True, slots=True)
class VectorAccounts:
    """The account of a step of N scenarios.

    Attributes:
        cost_usd: (N, 1 + M), the feeder's first.
        safety: (N, 1 + M) in pu node hours.
        rewards: (N, M).
        credit: (N, M) what an agent's actions touch of the whole: its own cost, the feeder's,
            and the penalty wherever it arises; but not what the others pay, in which it would
            find only their noise.
    """

    cost_usd: FloatArray
    safety: FloatArray
    rewards: FloatArray
    credit: FloatArray


class VectorAccountant:
    """Costs, safety and rewards of a step; see `heron.powergrid.accounting`."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self._config = config
        self._h = config.step_s / 3600.0
        self._devices = DeviceCosts(setup)
        owner = [
            m for m, microgrid in enumerate(config.microgrid_configs) for _ in microgrid.devices
        ]
        self._owner = np.eye(len(config.microgrid_ids))[owner]
        per_day = round(DAY_S / setup.profiles.step_s)
        price = setup.profiles[config.price_profile]
        self._store_value = STORED_ENERGY_VALUE * price.reshape(-1, per_day).mean(axis=1)
        self._revalued = lasts_several_days(config)

    def __call__(self, before: BatchMeasurements, after: BatchMeasurements) -> VectorAccounts:
        """Return the account of the step between two measurements."""
        h = self._h
        running = self._devices(before, after)
        day = (before.time_s // DAY_S).astype(np.int64) % len(self._store_value)
        stored = np.nan_to_num(after.soc - before.soc) * self._devices.capacity_mwh
        running = running - self._store_value[day][:, None] * stored
        if self._revalued:
            begun = (after.time_s // DAY_S).astype(np.int64) % len(self._store_value)
            turn = self._store_value[begun] - self._store_value[day]
            in_store = np.nan_to_num(after.soc) * self._devices.capacity_mwh
            running = running - turn[:, None] * in_store
        price = after.price_usd_per_mwh
        own = running @ self._owner - price[:, None] * after.meter_p_mw[:, 1:] * h
        feeder = price * after.meter_p_mw.sum(axis=1) * h
        cost = np.concatenate([feeder[:, None], own], axis=1)
        areas = after.areas
        safety = (areas.undervoltage_pu + areas.overvoltage_pu + areas.overload_pu) * h
        penalty = self._config.penalty * safety.sum(axis=1, keepdims=True)
        credit = -own - feeder[:, None] - penalty
        return VectorAccounts(cost, safety, self._rewards(cost, safety), credit)

    def _rewards(self, cost: FloatArray, safety: FloatArray) -> FloatArray:
        objective = cost + self._config.penalty * safety
        n = objective.shape[1] - 1
        if self._config.share_reward:
            return np.repeat(-objective.sum(axis=1, keepdims=True) / n, n, axis=1)
        return -objective[:, 1:] - self._config.penalty * safety[:, :1]


def _store_signals(setup: Setup) -> dict[str, StoreSignals]:
    """Return the signals of each store; stores of the same kind share theirs."""
    made: dict[tuple[Store, float], StoreSignals] = {}
    out: dict[str, StoreSignals] = {}
    for device in setup.config.device_ids:
        config = setup.config.device(device).device_state_config
        if isinstance(config, StorageConfig):
            kind = (Store.of(config), config.e_capacity_mwh)
            if kind not in made:
                made[kind] = StoreSignals(setup, config)
            out[device] = made[kind]
    return out


def _timetable(setup: Setup) -> tuple[dict[str, int], FloatArray]:
    """Return the fields of the market and the clock for each step of the data year.

    Returns:
        Column by ``Feature.field``, and the table, (n_steps, n_columns).
    """
    config, profiles = setup.config, setup.profiles
    market, clock = MarketSignal(forecast=bool(config.forecast)), TimeOfDay()
    names = [f"MarketSignal.{n}" for n in market.names()]
    names += [f"TimeOfDay.{n}" for n in clock.names()]
    n_steps = round(profiles.n_days * DAY_S / config.step_s)
    table = np.empty((n_steps, len(names)))
    for step in range(n_steps):
        time_s = step * config.step_s
        price = profiles.mean(config.price_profile, time_s, config.step_s)
        market.update(time_s, price, price_outlook(config, profiles, time_s))
        clock.update(time_s)
        table[step] = np.concatenate([market.vector(), clock.vector()])
    return {name: i for i, name in enumerate(names)}, table
