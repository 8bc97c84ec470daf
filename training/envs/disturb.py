"""Delays, losses and wrong sensors for many scenarios at once.

Stands between the plants and the policies of `training.envs.vector_env`. What happens within a
control step in event-driven time is put into its mean: a set-point that comes late leaves the one
before in force for that part of the step, and a measurement that is late lies between those of two
steps. Prices and the clock come with the signal of a step and are late as a whole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.policy import PolicyCodec
from heron.powergrid.features import Timeliness
from heron.scheduling import TickConfig
from training.envs.robustness import Robustness
from training.envs.timing import Timing

FloatArray = npt.NDArray[np.float64]
Observations = Mapping[str, npt.NDArray[np.float32]]

KEPT_STEPS = 4
"""Control steps that a delay may last at most."""
AGE = (Timeliness.feature_name, Timeliness.fields[0].name)
_TIMED = ("MarketSignal", "TimeOfDay")
_VOLTAGES = {"v_min", "v_max", "dv_min_pu", "dv_max_pu", "v_pu"}
_POWERS = {"p_MW", "q_MVAr", "load_MW"}
_CHARGES = {"soc"}


@dataclass(frozen=True, slots=True)
class _Fields:
    """Where the fields of one coordinator's observation stand.

    Attributes:
        timed: (obs_dim,) fields of the price signal and the clock.
        voltage: (obs_dim,) fields with a voltage.
        power: (obs_dim,) fields with a measured power.
        charge: (obs_dim,) states of charge.
        sensor: (obs_dim,) number of the agent that measures.
        scale: (obs_dim,) what a value is divided by.
        age: Position of the age of the observation; None if it is not observed.
    """

    timed: npt.NDArray[np.bool_]
    voltage: npt.NDArray[np.bool_]
    power: npt.NDArray[np.bool_]
    charge: npt.NDArray[np.bool_]
    sensor: npt.NDArray[np.int64]
    scale: FloatArray
    age: int | None

    @classmethod
    def of(cls, codec: PolicyCodec) -> _Fields:
        owners = list(dict.fromkeys(f.agent for f in codec.fields))
        measured = [f.feature not in ("PowerLimits", *_TIMED) for f in codec.fields]

        def among(names: set[str]) -> npt.NDArray[np.bool_]:
            return np.array(
                [m and f.field in names for f, m in zip(codec.fields, measured, strict=True)]
            )

        ages = [i for i, f in enumerate(codec.fields) if (f.feature, f.field) == AGE]
        return cls(
            timed=np.array([f.feature in _TIMED for f in codec.fields]),
            voltage=among(_VOLTAGES),
            power=among(_POWERS),
            charge=among(_CHARGES),
            sensor=np.array([owners.index(f.agent) for f in codec.fields]),
            scale=codec.scale,
            age=ages[0] if ages else None,
        )


class Disturber:
    """Makes late, loses and bends what passes between N plants and their policies.

    Args:
        robustness: What is drawn.
        codecs: Codec per coordinator.
        n: Scenarios.
        step_s: Length of a control step.
        seed: Of all draws.
    """

    def __init__(
        self,
        robustness: Robustness,
        codecs: Mapping[str, PolicyCodec],
        n: int,
        step_s: float,
        seed: int,
    ) -> None:
        self._draws = robustness
        self._fields = {agent: _Fields.of(codec) for agent, codec in codecs.items()}
        self._n = n
        self._step_s = step_s
        self._rng = np.random.default_rng(seed)
        self._seen: deque[Observations] = deque(maxlen=KEPT_STEPS + 1)
        self._said: deque[tuple[FloatArray, ...]] = deque(maxlen=KEPT_STEPS + 1)
        self._shown: dict[str, npt.NDArray[np.float32]] = {}
        self._ages: dict[str, FloatArray] = {}
        self._bends: dict[str, tuple[FloatArray, FloatArray]] = {}
        self._dropout = np.zeros(n)
        self._ticks: list[tuple[TickConfig, TickConfig]] = []

    def reset(self, obs: Observations) -> Observations:
        """Begin an episode in every scenario: draw, and show its first observations.

        Args:
            obs: (N, obs_dim) per agent, as measured.
        """
        rng, draws = self._rng, self._draws
        self._dropout = rng.uniform(*draws.dropout, self._n)
        timings = [draws.timing(rng) for _ in range(self._n)]
        seeds = rng.integers(2**31, size=self._n).tolist()
        self._ticks = [self._ticks_of(t, s) for t, s in zip(timings, seeds, strict=True)]
        self._bends = {agent: self._bend(fields) for agent, fields in self._fields.items()}
        self._seen.clear()
        self._said.clear()
        self._shown.clear()
        return self.show(obs)

    def _ticks_of(self, timing: Timing, seed: int) -> tuple[TickConfig, TickConfig]:
        coordinator = timing.coordinator(self._step_s, seed).for_agent("coordinator", seed)
        return coordinator, timing.device(self._step_s, seed).for_agent("device", seed)

    def _bend(self, fields: _Fields) -> tuple[FloatArray, FloatArray]:
        """Draw each sensor's gain and offset, (N, obs_dim) each."""
        draws, shape = self._draws, (self._n, int(fields.sensor.max()) + 1)
        volts, gains, charges = (
            self._rng.normal(0.0, spread, shape)[:, fields.sensor]
            for spread in (draws.sensor_bias_pu, draws.sensor_gain, draws.soc_bias)
        )
        gain = 1.0 + np.where(fields.power, gains, 0.0)
        offset = np.where(fields.voltage, volts, 0.0) + np.where(fields.charge, charges, 0.0)
        return gain, offset / fields.scale

    def show(self, obs: Observations) -> Observations:
        """Return what the coordinators see of what was just measured.

        Args:
            obs: (N, obs_dim) per agent, as measured.
        """
        if self._draws.wrong:
            obs = {
                agent: (values * self._bends[agent][0] + self._bends[agent][1]).astype(np.float32)
                for agent, values in obs.items()
            }
        if not self._draws.late:
            return obs
        self._seen.appendleft(obs)
        for agent in obs:
            age = self._delays(of_measurement=True)
            shown = self._between(agent, age)
            if agent in self._shown:
                lost = self._rng.random(self._n) < self._dropout
                shown[lost] = self._shown[agent][lost]
                age = np.where(lost, self._ages[agent] + 1.0, age)
            self._shown[agent], self._ages[agent] = shown, age
            place = self._fields[agent].age
            if place is not None:
                shown[:, place] = age / self._fields[agent].scale[place]
        return {agent: values.copy() for agent, values in self._shown.items()}

    def _delays(self, *, of_measurement: bool) -> FloatArray:
        """Draw delays in control steps, (N,), from each scenario's `TickConfig`."""
        if of_measurement:
            drawn = [d.next_msg_delay() + c.next_obs_delay() for c, d in self._ticks]
        else:
            drawn = [c.next_msg_delay() + d.next_act_delay() for c, d in self._ticks]
        return np.minimum(np.array(drawn) / self._step_s, KEPT_STEPS - 1.0)

    def _between(self, agent: str, age: FloatArray) -> npt.NDArray[np.float32]:
        """Return observations of a given age in control steps."""
        timed = self._fields[agent].timed
        history = np.stack([seen[agent] for seen in self._seen])
        last = len(history) - 1
        rows = np.arange(self._n)
        whole = np.floor(age).astype(np.int64)
        newer = history[np.minimum(whole, last), rows]
        older = history[np.minimum(whole + 1, last), rows]
        part = (age - whole)[:, None]
        measured = newer + part * (older - newer)
        signalled = history[np.minimum(np.ceil(age).astype(np.int64), last), rows]
        return np.where(timed, signalled, measured).astype(np.float32)

    def carry(
        self, p_mw: FloatArray, q_mvar: FloatArray, owner: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mean set-points of a step whose commands come late or are lost.

        Args:
            p_mw: (N, D) active power that the coordinators command now.
            q_mvar: (N, D) reactive power.
            owner: (D,) number of the coordinator that commands each device.
        """
        if not self._draws.late:
            return p_mw, q_mvar
        agents = range(int(owner.max()) + 1)
        lost = np.stack([self._rng.random(self._n) < self._dropout for _ in agents], axis=1)
        late = np.stack([self._delays(of_measurement=False) for _ in agents], axis=1)
        if self._said:
            hold = lost[:, owner]
            p_mw, q_mvar = (
                np.where(hold, before, now)
                for now, before in zip((p_mw, q_mvar), self._said[0], strict=True)
            )
        self._said.appendleft((p_mw, q_mvar))
        age = late[:, owner]
        whole = np.floor(age).astype(np.int64)
        last = len(self._said) - 1
        rows, columns = np.indices(age.shape)
        out = []
        for k in range(2):
            history = np.stack([said[k] for said in self._said])
            newer = history[np.minimum(whole, last), rows, columns]
            older = history[np.minimum(whole + 1, last), rows, columns]
            out.append(newer + (age - whole) * (older - newer))
        return out[0], out[1]
