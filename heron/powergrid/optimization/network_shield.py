"""The network's shield: where all coordinators' proposals come together before they are sent.

A round is one control step. Coordinators propose; the first that asks for its answer makes the
shield decide on everything proposed so far: who has its answer is fixed from then on, and who has
said nothing is taken to hold what it was last told, or to be at rest. So it does not matter who
asks first, if all propose before anyone asks; and one that acts by itself, in its own time, is
answered too, on what is known then.

A shield that does not know the network must not move anything. Where its model finds no solution,
or is off what the devices measure, proposals pass as they are, the note says so, and the envelope
at the edge decides.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from heron.errors import PowerFlowDiverged
from heron.policy import PolicyCodec
from heron.powergrid.accounting import STORED_ENERGY_VALUE
from heron.powergrid.device_configs import (
    GeneratorConfig,
    InverterSourceConfig,
    StorageConfig,
)
from heron.powergrid.envelope import admit
from heron.powergrid.network_model import Flow, NetworkModel
from heron.powergrid.networks import Grid
from heron.powergrid.optimization.network_projection import (
    Moved,
    NetworkProjection,
    NetworkShieldSettings,
)
from heron.powergrid.optimization.next_step import Outlook, StepOutlook
from heron.powergrid.optimization.shield import circles
from heron.powergrid.optimization.site_view import CoordinatorView, Told
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.setups import Setup

logger = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]

MODEL_OFF_PU = 0.02
"""A device's voltage this far from the model's means that the model is not of this network."""
HELD_STEPS = 3
"""Steps for which one that says nothing is taken to hold its set-points: as a command lives."""
REMEMBERED = 100_000
"""Rounds of which the record keeps what was off."""
SAME_MW = 1e-6
CURTAILED_MW = 1e-4


def _newest() -> deque[float]:
    return deque(maxlen=REMEMBERED)


@dataclass(slots=True)
class ShieldRecord:
    """What a shield did, step by step; see `NetworkShield.record`.

    Attributes:
        steps: Rounds that were decided.
        moved: Rounds in which a proposal was moved.
        unresolved: Rounds in which some course was still out of its band.
        blind: Rounds in which it did not know the network, and moved nothing.
        linear_pu: Per moved round, by how much the linear model was off the power flow.
        step_pu: Per round, by how much a watched node was off what was expected, at most.
        meter_pu: Per round, by how much a device's voltage was off the model's, at most.
    """

    steps: int = 0
    moved: int = 0
    unresolved: int = 0
    blind: int = 0
    linear_pu: deque[float] = field(default_factory=_newest)
    step_pu: deque[float] = field(default_factory=_newest)
    meter_pu: deque[float] = field(default_factory=_newest)


@dataclass(slots=True)
class _Round:
    """One control step: who proposed what, and who was answered with what."""

    time_s: float
    before: Any
    told: dict[str, Told] = field(default_factory=dict)
    answers: dict[str, tuple[npt.NDArray[np.float32], str]] = field(default_factory=dict)
    state: Any = None
    expected: Flow | None = None


class NetworkShield:
    """Keeps the voltage band of a whole network.

    Args:
        setup: The setup.
        grid: Its grid.
        model: Its network's equations; no one else's.
        codecs: Of the coordinators.
        settings: See `NetworkShieldSettings`.

    Attributes:
        record: What it did.

    Raises:
        KeyError: An observation lacks the time, prices or powers.
    """

    def __init__(
        self,
        setup: Setup,
        grid: Grid,
        model: NetworkModel,
        codecs: Mapping[str, PolicyCodec],
        settings: NetworkShieldSettings | None = None,
    ) -> None:
        settings = settings or NetworkShieldSettings()
        config = setup.config
        self._step_s = config.step_s
        self._model = model
        self._watched = model.watched
        self._outlook = StepOutlook(setup, grid, tail=settings.tail)
        place = {d.device_id: k for k, d in enumerate(grid.devices)}
        self._views = {a: CoordinatorView(codec, setup, place) for a, codec in codecs.items()}
        devices = [config.device(d.device_id).device_state_config for d in grid.devices]
        self._devices = devices
        self._limits = [device.limits for device in devices]
        self._is_source = np.array([isinstance(d, InverterSourceConfig) for d in devices])
        rest = [device.p_range_mw for device in devices]
        self._rest_mw = np.array(
            [
                high if source else max(low, 0.0)
                for (low, high), source in zip(rest, self._is_source, strict=True)
            ]
        )
        self._projection = NetworkProjection(
            model,
            band_pu=config.v_limits_pu,
            step_s=config.step_s,
            is_source=self._is_source,
            circles=circles(self._limits),
            settings=settings,
        )
        self._round: _Round | None = None
        self._held: dict[str, tuple[float, FloatArray, FloatArray]] = {}
        self._seen: dict[str, Told] = {}
        self._blind = ""
        self.record = ShieldRecord()

    def begin(self) -> None:
        """Forget where the network stood: an episode begins."""
        self._round = None

    def propose(self, agent: str, obs: npt.ArrayLike, action: npt.ArrayLike) -> None:
        """Take a coordinator's observation and what it proposes.

        Raises:
            PolicyError: Something is not finite, or of no time of the data year.
        """
        told = self._views[agent].read(obs, action)
        now = self._round
        if now is None or abs(told.time_s - now.time_s) > 0.5 * self._step_s:
            now = self._round = self._next(told.time_s)
        known = now.told.get(agent)
        if known is None or not np.array_equal(known.action, told.action):
            now.answers.pop(agent, None)
        now.told[agent] = self._seen[agent] = told

    def answer(self, agent: str) -> tuple[npt.NDArray[np.float32], str]:
        """Return the action that a coordinator that has proposed may take, and what was moved.

        Raises:
            KeyError: It has not proposed.
        """
        now = self._round
        if now is None or agent not in now.told:
            raise KeyError(f"{agent} has proposed nothing")
        if agent not in now.answers:
            self._decide(now)
        return now.answers[agent]

    def _next(self, time_s: float) -> _Round:
        """Begin a round; after a leap in time everything is as at a start."""
        last = self._round
        follows = last is not None and 0.0 < time_s - last.time_s < 1.5 * self._step_s
        if last is None or not follows:
            self._held, self._seen = {}, {}
            return _Round(time_s, None)
        return _Round(time_s, last.state, expected=last.expected)

    def _decide(self, now: _Round) -> None:
        """Answer all that have proposed and were not answered yet."""
        free = [a for a in self._views if a in now.told and a not in now.answers]
        p_set, q_set, absent = self._wanted(now)
        reason, found, box = "", None, None
        try:
            reason = self._track(now)
            if not reason:
                courses = self._outlook.courses(now.time_s)
                x0, box = self._admitted(now, free, p_set, q_set, courses)
                told = now.told[free[0]]
                found = self._projection.move(
                    x0,
                    box,
                    courses,
                    now.state,
                    price_usd_per_mwh=told.price_usd_per_mwh,
                    own_usd_per_mwh=self._own(x0, told.day_mean_usd_per_mwh),
                )
        except PowerFlowDiverged as error:
            reason = f"the model has no solution: {error.cause}"
            now.state = now.before
        self._say(now.time_s, reason, absent)
        now.expected = None if found is None else found.expected
        if found is not None:
            p_set, q_set = self._changed(x0, found, p_set, q_set)
        moved = False
        for agent in free:
            view, told = self._views[agent], now.told[agent]
            p, q = p_set[view.devices], q_set[view.devices]
            action, where = view.action(told, p, q)
            moved = moved or bool(where)
            words = [f"blind ({reason})"] if reason else where
            if words and absent:
                words.append(f"without {', '.join(absent)}")
            now.answers[agent] = action, f"shield: {'; '.join(words)}" if words else ""
            self._held[agent] = now.time_s, p, q
        self._count(found, moved, reason)

    def _wanted(self, now: _Round) -> tuple[FloatArray, FloatArray, list[str]]:
        """Return everyone's set-points, and of whom nothing was heard in this round."""
        n = len(self._limits)
        p, q, absent = self._rest_mw.copy(), np.zeros(n), []
        for agent, view in self._views.items():
            told = now.told.get(agent)
            if told is None:
                absent.append(agent)
            if told is not None and agent not in now.answers:
                p[view.devices], q[view.devices] = told.p_set_mw, told.q_set_mvar
            elif agent in self._held:
                since_s, p_held, q_held = self._held[agent]
                if now.time_s - since_s < (HELD_STEPS + 0.5) * self._step_s:
                    p[view.devices], q[view.devices] = p_held, q_held
        return p, q, absent

    def _track(self, now: _Round) -> str:
        """Find where the network's controls stand now; return why that is not known, or nothing."""
        n = len(self._limits)
        p, q, v = self._rest_mw.copy(), np.zeros(n), np.full(n, np.nan)
        start = now.before is None
        last = self._outlook.now(now.time_s) if start else self._outlook.last(now.time_s)
        for agent, view in self._views.items():
            if (told := self._seen.get(agent)) is not None:
                p[view.devices], q[view.devices] = told.p_mw, told.q_mvar
            if agent in now.told:
                v[view.devices] = now.told[agent].v_pu
        p = np.where(np.isnan(v), np.minimum(p, last.available_mw), p)
        if start:
            flow = self._model.settle(last.load_scale, p, q)
        else:
            flow = self._model.solve(
                last.load_scale, p, q, now.before, move_taps=True, dt_s=self._step_s
            )
        now.state = flow.state
        off = np.abs(flow.device_v_pu - v)
        worst = float(np.nanmax(off))
        if len(now.answers) == 0:
            self.record.meter_pu.append(worst)
            if now.expected is not None:
                away = np.abs(flow.v_pu - now.expected.v_pu)[self._watched]
                self.record.step_pu.append(float(away.max()))
        if worst > MODEL_OFF_PU:
            return f"the model is {worst:.3f} pu off what the devices measure"
        return ""

    def _admitted(
        self,
        now: _Round,
        free: list[str],
        p_set: FloatArray,
        q_set: FloatArray,
        courses: list[Outlook],
    ) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
        """Return what the envelope will make of the set-points, and between what each may move.

        Only devices of those that are to be answered may move.
        """
        n = len(self._limits)
        sun = np.max([course.available_mw for course in courses], axis=0)
        x0 = np.concatenate([np.minimum(p_set, sun), q_set])
        low, high = x0.copy(), x0.copy()
        for agent in free:
            told = now.told[agent]
            for k, d in enumerate(self._views[agent].devices.tolist()):
                limits, soc = self._limits[d], float(told.soc[k])
                charge = None if np.isnan(soc) else soc
                reading = DeviceReading(
                    told.p_mw[k], told.q_mvar[k], told.v_pu[k], told.v_pu[k], told.v_pu[k], charge
                )
                wanted = Setpoint(float(p_set[d]), float(q_set[d]))
                admitted = admit(wanted, limits, reading, None, self._step_s).applied
                given = wanted if admitted is None else admitted
                p_low, p_high = limits.p_min_mw, min(limits.p_max_mw, float(sun[d]))
                if limits.storage is not None and charge is not None:
                    least, most = limits.storage.p_range_mw(charge, self._step_s)
                    p_low, p_high = max(p_low, least), min(p_high, most)
                x0[d], x0[n + d] = min(given.p_mw, float(sun[d])), given.q_mvar
                low[d], high[d] = min(p_low, x0[d]), max(p_high, x0[d])
                low[n + d], high[n + d] = limits.q_min_mvar, limits.q_max_mvar
        return x0, (low, high)

    def _own(self, x0: FloatArray, day_mean_usd_per_mwh: float) -> FloatArray:
        """Return what more active power of each device costs, (n_devices,), $/MWh.

        What a store gives it lacks later, at what the accounts hold it to be worth.
        """
        own = np.zeros(len(self._devices))
        worth = STORED_ENERGY_VALUE * day_mean_usd_per_mwh
        for k, (device, p) in enumerate(zip(self._devices, x0.tolist(), strict=False)):
            if isinstance(device, GeneratorConfig):
                square, linear, _ = device.cost_curve_coefs
                own[k] = 2.0 * square * p + linear
            elif isinstance(device, StorageConfig):
                own[k] = worth / device.dsc_eff if p > 0.0 else worth * device.ch_eff
        return own

    def _changed(
        self, x0: FloatArray, found: Moved, p_set: FloatArray, q_set: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Return the set-points, those replaced that were moved; a free ceiling stays free."""
        n = len(p_set)
        change = found.x - x0
        free = self._is_source & (change[:n] > -CURTAILED_MW)
        same = np.abs(change) < SAME_MW
        p = np.where(same[:n] | free, p_set, found.x[:n])
        return p, np.where(same[n:], q_set, found.x[n:])

    def _count(self, found: Moved | None, moved: bool, reason: str) -> None:
        record = self.record
        record.steps += 1
        record.moved += moved
        record.blind += bool(reason)
        if found is not None and found.after_pu > 0.0:
            record.unresolved += 1
        if moved and found is not None:
            record.linear_pu.append(found.linear_residual_pu)

    def _say(self, time_s: float, reason: str, absent: list[str]) -> None:
        """Log when it loses the network out of sight, and when it sees it again."""
        before, self._blind = self._blind, reason
        if reason and not before:
            logger.warning("shield_blind time_s=%.0f reason=%s", time_s, reason)
        elif before and not reason:
            logger.warning("shield_sees time_s=%.0f after=%s", time_s, before)
        if absent:
            logger.debug("shield_without time_s=%.0f agents=%s", time_s, ",".join(absent))
