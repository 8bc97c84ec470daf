"""The agents' part of a step for many scenarios at once: set-points, observations, accounts.

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
from heron.policy import ActionMapping, PolicyCodec, SetpointSpec
from heron.policy.codec import CEILING_FULL_AT
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import (
    DeviceConfig,
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
)
from heron.powergrid.features import MarketSignal, TimeOfDay
from heron.powergrid.setups import Setup, SetupConfig
from simulator.batch_plant import BatchMeasurements

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

DAY_S = 86_400.0
_SUPPORTED = (GeneratorConfig, StorageConfig, InverterSourceConfig)


def require_supported(setup: Setup) -> None:
    """Refuse what the arrays do not cover.

    Raises:
        ConfigError: A device is of a type, or has a limit, that only single environments know.
    """
    problems = []
    for microgrid in setup.config.microgrid_configs:
        for entry in microgrid.devices:
            config = entry.device_state_config
            where = f"{microgrid.name}.{entry.name}"
            if not isinstance(config, _SUPPORTED):
                expected = "a Generator, ESS, PV or WindTurbine; train with --no-batched"
                problems.append(ConfigProblem(where, entry.type, expected))
            elif config.envelope_v_pu is not None or config.ramp_mw_per_min is not None:
                expected = "no ramp limit and no envelope_v_pu; train with --no-batched"
                problems.append(ConfigProblem(where, "", expected))
            elif isinstance(config, GeneratorConfig) and config.unit_commitment:
                expected = "no unit commitment; train with --no-batched"
                problems.append(ConfigProblem(where, True, expected))
    if problems:
        raise ConfigError(problems)


class SetpointMapper:
    """Normalised actions to set-points that the envelope lets pass."""

    def __init__(self, setup: Setup, codecs: Mapping[str, PolicyCodec]) -> None:
        config = setup.config
        self._at = {d: k for k, d in enumerate(config.device_ids)}
        self._dt_h = config.step_s / 3600.0
        limits = [config.device(d).device_state_config.limits for d in config.device_ids]
        self._p_range = np.array([(x.p_min_mw, x.p_max_mw) for x in limits]).T
        self._q_range = np.array([(x.q_min_mvar, x.q_max_mvar) for x in limits]).T
        self._s_max = np.array([np.inf if x.s_max_mva is None else x.s_max_mva for x in limits])
        stores = [(k, x.storage) for k, x in enumerate(limits) if x.storage is not None]
        self._stores = np.array([k for k, _ in stores], dtype=np.int64)
        rows = [
            (s.e_capacity_mwh, s.soc_min, s.soc_max, s.ch_eff, s.dsc_eff, s.self_discharge_per_h)
            for _, s in stores
        ]
        self._store_rows = np.array(rows).reshape(-1, 6).T
        self._specs = {agent: codec.setpoints for agent, codec in codecs.items()}

    def __call__(
        self, actions: Mapping[str, npt.NDArray[np.float32]], soc: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the admitted set-points in MW and Mvar, (N, D) each.

        Args:
            actions: (N, act_dim) per agent.
            soc: (N, D) state of charge now.
        """
        p_mw, q_mvar = np.zeros(soc.shape), np.zeros(soc.shape)
        for agent, specs in self._specs.items():
            x = np.clip(actions[agent].astype(np.float64), -1.0, 1.0)
            for i, spec in enumerate(specs):
                target = p_mw if spec.quantity == "p_mw" else q_mvar
                target[:, self._at[spec.agent]] = _decode(spec, x[:, i])
        p_mw = np.clip(p_mw, *self._p_range)
        if self._stores.size:
            p_mw[:, self._stores] = self._within_charge(p_mw[:, self._stores], soc[:, self._stores])
        p_mw = np.clip(p_mw, -self._s_max, self._s_max)
        beside = np.sqrt(np.maximum(self._s_max**2 - p_mw**2, 0.0))
        return p_mw, np.clip(np.clip(q_mvar, *self._q_range), -beside, beside)

    def _within_charge(self, p_mw: FloatArray, soc: FloatArray) -> FloatArray:
        capacity, soc_min, soc_max, ch_eff, dsc_eff, lost = self._store_rows
        h = self._dt_h
        kept = soc * np.maximum(0.0, 1.0 - lost * h)
        room = np.maximum(0.0, soc_max - soc) * capacity
        stock = np.maximum(0.0, kept - soc_min) * capacity
        return np.clip(p_mw, -room / (ch_eff * h), stock * dsc_eff / h)


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
        self._microgrids = [_Microgrid.of(config, name) for name in codecs]
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

    @classmethod
    def of(cls, config: SetupConfig, name: str) -> _Microgrid:
        index = config.microgrid_ids.index(name)
        microgrid = config.microgrid_configs[index]
        transformer = microgrid.transformer
        rating_mva = np.inf if transformer is None else transformer.s_kva / 1000.0
        devices = tuple(
            (d.name, config.device_ids.index(d.name), d.device_state_config)
            for d in microgrid.devices
        )
        return cls(name, index, float(rating_mva), devices)

    def measured(self, seen: BatchMeasurements) -> dict[str, FloatArray]:
        """Return the measured fields by their path, (N,) each."""
        at = [k for _, k, _ in self.devices]
        p, q = seen.meter_p_mw[:, 1 + self.index], seen.meter_q_mvar[:, 1 + self.index]
        meter_v = seen.meter_v_pu[:, 1 + self.index]
        v_min = np.minimum(meter_v[:, 1], seen.v_pu[:, at, 1].min(axis=1))
        v_max = np.maximum(meter_v[:, 2], seen.v_pu[:, at, 2].max(axis=1))
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
            if isinstance(config, StorageConfig):
                out[f"{device}.StorageBlock.soc"] = seen.soc[:, k]
                stored = seen.soc[:, k] * config.e_capacity_mwh
                out[f"{device}.StorageBlock.e_stored_MWh"] = stored
            if isinstance(config, InverterSourceConfig):
                out[f"{device}.InverterBasedSource.output"] = seen.p_mw[:, k] / config.p_rated_mw
        return out


class VectorAccountant:
    """Costs, safety and rewards of a step; see `heron.powergrid.accounting`."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self._config = config
        self._h = config.step_s / 3600.0
        entries = [config.device(d).device_state_config for d in config.device_ids]
        fuel = [
            e.cost_curve_coefs if isinstance(e, GeneratorConfig) else (0, 0, 0) for e in entries
        ]
        self._fuel = np.array(fuel, dtype=np.float64).T
        self._wear, self._curtailment, self._capacity = (
            np.array([getattr(e, name, 0.0) for e in entries], dtype=np.float64)
            for name in ("degradation_usd_per_mwh", "curtailment_usd_per_mwh", "e_capacity_mwh")
        )
        owner = [
            m for m, microgrid in enumerate(config.microgrid_configs) for _ in microgrid.devices
        ]
        self._owner = np.eye(len(config.microgrid_ids))[owner]
        per_day = round(DAY_S / setup.profiles.step_s)
        price = setup.profiles[config.price_profile]
        self._store_value = STORED_ENERGY_VALUE * price.reshape(-1, per_day).mean(axis=1)

    def __call__(
        self, before: BatchMeasurements, after: BatchMeasurements
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return cost in $, safety in pu node hours (N, 1 + M), and rewards (N, M).

        The first column of cost and safety is the feeder's.
        """
        h = self._h
        a, b, c = self._fuel
        p = after.p_mw
        running = a * p * p + b * p + c + self._wear * np.abs(p)
        curtailed = np.nan_to_num(np.maximum(after.available_mw - p, 0.0))
        running = (running + self._curtailment * curtailed) * h
        day = (before.time_s // DAY_S).astype(np.int64) % len(self._store_value)
        stored = np.nan_to_num(after.soc - before.soc) * self._capacity
        running = running - self._store_value[day][:, None] * stored
        price = after.price_usd_per_mwh
        own = running @ self._owner - price[:, None] * after.meter_p_mw[:, 1:] * h
        feeder = price * after.meter_p_mw.sum(axis=1) * h
        cost = np.concatenate([feeder[:, None], own], axis=1)
        areas = after.areas
        safety = (areas.undervoltage_pu + areas.overvoltage_pu + areas.overload_pu) * h
        return cost, safety, self._rewards(cost, safety)

    def _rewards(self, cost: FloatArray, safety: FloatArray) -> FloatArray:
        objective = cost + self._config.penalty * safety
        n = objective.shape[1] - 1
        if self._config.share_reward:
            return np.repeat(-objective.sum(axis=1, keepdims=True) / n, n, axis=1)
        return -objective[:, 1:] - self._config.penalty * safety[:, :1]


def _decode(spec: SetpointSpec, x: FloatArray) -> FloatArray:
    """Do what `SetpointSpec.decode` does, for many."""
    match spec.mapping:
        case ActionMapping.LINEAR:
            return spec.low + (x + 1.0) / 2.0 * (spec.high - spec.low)
        case ActionMapping.CENTRED:
            return np.where(x >= 0.0, x * spec.high, -x * spec.low)
        case _:
            return spec.high * np.minimum(1.0, (x + 1.0) / CEILING_FULL_AT)


def _timetable(setup: Setup) -> tuple[dict[str, int], FloatArray]:
    """Return the fields of the market and the clock for each step of the data year.

    Returns:
        Column by ``Feature.field``, and the table, (n_steps, n_columns).
    """
    config, profiles = setup.config, setup.profiles
    market, clock = MarketSignal(forecast=config.forecast), TimeOfDay()
    names = [f"MarketSignal.{n}" for n in market.names()]
    names += [f"TimeOfDay.{n}" for n in clock.names()]
    n_steps = round(profiles.n_days * DAY_S / config.step_s)
    table = np.empty((n_steps, len(names)))
    day_ahead: tuple[float, ...] = ()
    for step in range(n_steps):
        time_s = step * config.step_s
        if config.forecast and time_s % DAY_S == 0.0:
            day_ahead = profiles.day_ahead(time_s, config.price_profile)
        price = profiles.mean(config.price_profile, time_s, config.step_s)
        market.update(time_s, price, day_ahead)
        clock.update(time_s)
        table[step] = np.concatenate([market.vector(), clock.vector()])
    return {name: i for i, name in enumerate(names)}, table
