"""What a step cost, how unsafe it was, and the reward that follows.

Counted from the truth of the plant (`Measurements` with its `AreaReading`), which no agent may
observe. The environment and the simulator both use it, so the deployed loop and the training
report the same figures.

With ``h`` the length of the step in hours, ``price`` in $/MWh and imports positive:

- a microgrid pays its devices' running costs, ``price * import * h``, less the change of what it
  has in store, valued at 0.95 of the day's mean price: without this a policy that drains its
  batteries before the episode ends would look good. Where an episode lasts several days, what is
  in store at midnight is worth what the day that begins makes of it: else energy could be booked
  in on a dear day and out on a cheap one, and earn without having been traded;
- the feeder pays ``price * (head - sum of the microgrids' imports) * h``: its own load and the
  losses;
- the safety of an area is ``(voltage violation + overload) * h``, in pu node hours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from heron.errors import ConfigError
from heron.powergrid.device_configs import DAY_S, DeviceConfig
from heron.powergrid.quantities import DeviceReading, Measurements

if TYPE_CHECKING:
    from heron.powergrid.setups import Setup
    from heron.powergrid.setups.models import SetupConfig

STORED_ENERGY_VALUE = 0.95
"""Worth of stored energy, as a share of the day's mean price."""

HEAD = "head"
"""Name of the meter at the feeder's head."""

_make = tuple.__new__
"""Builds a named tuple without the detour through its keywords: every step is accounted."""


_OfReading: TypeAlias = Callable[[DeviceReading], float]
_OfStep: TypeAlias = Callable[[DeviceReading, DeviceReading, float, float], float]
_Meter: TypeAlias = tuple[str, _OfReading, _OfStep | None, _OfReading]
"""A device: running cost, cost of what happens once, what is in store, as it is configured."""

_Part: TypeAlias = "tuple[str, float, float, float, float, dict[str, float]]"
"""An area, and its account without the reward, in the order of `AgentAccounts`."""


class AgentAccounts(NamedTuple):
    """One area's part in the account of a step.

    Attributes:
        reward: What its agent is rewarded with; for the feeder, its own ``-cost - penalty *
            safety``.
        cost_usd: What it paid, less the growth of what it has in store.
        safety: Voltage violation and overload, pu node hours.
        v_min_pu: Lowest node voltage of the area.
        v_max_pu: Highest node voltage.
        device_cost_usd: Running cost per device, part of ``cost_usd``.
    """

    reward: float
    cost_usd: float
    safety: float
    v_min_pu: float
    v_max_pu: float
    device_cost_usd: Mapping[str, float]


class StepAccounts(NamedTuple):
    """The account of a step.

    Attributes:
        agents: Per area: each microgrid, then the feeder.
        reward: ``-cost - penalty * safety`` of the whole, however rewards are shared.
        cost_usd: Sum over the areas.
        safety: Sum over the areas, pu node hours.
        violation_pu: Voltage violation summed over all nodes, pu.
    """

    agents: Mapping[str, AgentAccounts]
    reward: float
    cost_usd: float
    safety: float
    violation_pu: float


class Accountant:
    """Accounts step after step for one setup; what it returns depends on the two only."""

    def __init__(self, setup: Setup) -> None:
        config = setup.config
        self._profiles = setup.profiles
        self._price = config.price_profile
        self._revalued = lasts_several_days(config)
        self._mean_of_day: tuple[float, float] = (-1.0, 0.0)
        self._penalty = config.penalty
        self._share = config.share_reward
        self._dso = config.dso_config.name
        self._microgrids = [
            (m.name, [_meter(d.name, d.device_state_config) for d in m.devices])
            for m in config.microgrid_configs
        ]

    def account(self, before: Measurements, after: Measurements) -> StepAccounts:
        """Return the account of the step that led from ``before`` to ``after``.

        Raises:
            ConfigError: A device, meter or area of the setup is not in the measurements.
        """
        try:
            parts, feeder, total_violation = self._parts(before, after)
        except KeyError as error:
            raise ConfigError(f"the measurements do not hold {error}") from error
        return self._settle(parts, feeder, total_violation)

    def _parts(self, before: Measurements, after: Measurements) -> tuple[list[_Part], _Part, float]:
        """Return the account of each microgrid and of the feeder, and the violation of all."""
        time_s, dt_s, price = before.time_s, after.dt_s, after.price_usd_per_mwh
        h = dt_s / 3600.0
        day, mean = self._mean_of_day
        if day != time_s // DAY_S:
            mean = self._mean_price(time_s)
        store_value = STORED_ENERGY_VALUE * mean
        # What a unit in store gains in worth by the turn of the day.
        turn = 0.0
        if self._revalued and time_s // DAY_S != after.time_s // DAY_S:
            turn = STORED_ENERGY_VALUE * self._mean_price(after.time_s) - store_value
        earlier, later, meters, areas = before.devices, after.devices, after.meters, after.areas
        parts: list[_Part] = []
        total_violation = imports = 0.0
        for name, devices in self._microgrids:
            own: dict[str, float] = {}
            running = stored = 0.0
            for device, cost_usd_per_h, one_off_usd, stored_mwh in devices:
                now = later[device]
                paid = cost_usd_per_h(now) * dt_s / 3600.0
                if one_off_usd is not None:
                    paid += one_off_usd(earlier[device], now, time_s, dt_s)
                own[device] = paid
                running += paid
                if now.soc is not None:
                    stored += stored_mwh(now) - stored_mwh(earlier[device])
                    if turn:
                        running -= turn * stored_mwh(now)
            imported = -meters[name].p_mw
            imports += imported
            cost = running + price * imported * h - store_value * stored
            v_min, v_max, _, _, _, _, overload, _, violation = areas[name]
            total_violation += violation
            parts.append((name, cost, (violation + overload) * h, v_min, v_max, own))
        cost = price * (meters[HEAD].p_mw - imports) * h
        v_min, v_max, _, _, _, _, overload, _, violation = areas[self._dso]
        feeder: _Part = (self._dso, cost, (violation + overload) * h, v_min, v_max, {})
        return parts, feeder, total_violation + violation

    def _mean_price(self, time_s: float) -> float:
        """Return the mean price of a day, remembered until another day is asked for."""
        day = time_s // DAY_S
        if self._mean_of_day[0] != day:
            prices = self._profiles.day_ahead(time_s, self._price)
            self._mean_of_day = (day, sum(prices) / len(prices))
        return self._mean_of_day[1]

    def _settle(self, parts: Sequence[_Part], feeder: _Part, violation_pu: float) -> StepAccounts:
        """Return the account of the step, given each microgrid's part and the feeder's."""
        cost = safety = 0.0
        for part in parts:
            cost += part[1]
            safety += part[2]
        dso, of_feeder, unsafe, v_min, v_max, own = feeder
        cost, safety, penalty = cost + of_feeder, safety + unsafe, self._penalty
        total = -cost - penalty * safety
        share = total / len(parts) if self._share else None
        agents: dict[str, AgentAccounts] = {}
        for name, paid, violated, low, high, devices in parts:
            reward = -paid - penalty * (violated + unsafe) if share is None else share
            agents[name] = _make(AgentAccounts, (reward, paid, violated, low, high, devices))
        reward = -of_feeder - penalty * unsafe
        agents[dso] = _make(AgentAccounts, (reward, of_feeder, unsafe, v_min, v_max, own))
        return _make(StepAccounts, (agents, total, cost, safety, violation_pu))


def _meter(name: str, config: DeviceConfig) -> _Meter:
    one_off = config.one_off_usd if config.has_one_off else None
    return name, config.cost_usd_per_h, one_off, config.stored_mwh


def lasts_several_days(config: SetupConfig) -> bool:
    """Return whether an episode is longer than a day, so that charge is carried over midnight."""
    return config.max_episode_steps * config.step_s > DAY_S


def account(setup: Setup, before: Measurements, after: Measurements) -> StepAccounts:
    """Return the account of one step; a loop over steps keeps an `Accountant` instead.

    Raises:
        ConfigError: A device, meter or area of the setup is not in the measurements.
    """
    return Accountant(setup).account(before, after)
