"""What a step cost, how unsafe it was, and the reward that follows.

Counted from the truth of the plant (`Measurements` with its `AreaReading`), which no agent may
observe. The environment and the simulator both use it, so the deployed loop and the training
report the same figures.

With ``h`` the length of the step in hours, ``price`` in $/MWh and imports positive:

- a microgrid pays its devices' running costs, ``price * import * h``, less the change of what it
  has in store, valued at 0.95 of the day's mean price: without this a policy that drains its
  batteries before the episode ends would look good;
- the feeder pays ``price * (head - sum of the microgrids' imports) * h``: its own load and the
  losses;
- the safety of an area is ``(voltage violation + overload) * h``, in pu node hours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from heron.errors import ConfigError
from heron.powergrid.device_configs import DAY_S, DeviceConfig
from heron.powergrid.quantities import Measurements

if TYPE_CHECKING:
    from heron.powergrid.setups import Setup

STORED_ENERGY_VALUE = 0.95
"""Worth of stored energy, as a share of the day's mean price."""

HEAD = "head"
"""Name of the meter at the feeder's head."""


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
        self._mean_of_day: tuple[float, float] = (-1.0, 0.0)
        self._penalty = config.penalty
        self._share = config.share_reward
        self._dso = config.dso_config.name
        self._microgrids: dict[str, tuple[tuple[str, DeviceConfig], ...]] = {
            m.name: tuple((d.name, d.device_state_config) for d in m.devices)
            for m in config.microgrid_configs
        }

    def account(self, before: Measurements, after: Measurements) -> StepAccounts:
        """Return the account of the step that led from ``before`` to ``after``.

        Raises:
            ConfigError: A device, meter or area of the setup is not in the measurements.
        """
        try:
            return self._account(before, after)
        except KeyError as error:
            raise ConfigError(f"the measurements do not hold {error}") from error

    def _account(self, before: Measurements, after: Measurements) -> StepAccounts:
        h = after.dt_s / 3600.0
        price = after.price_usd_per_mwh
        store_value = STORED_ENERGY_VALUE * self._mean_price(before.time_s)
        cost: dict[str, float] = {}
        device_costs: dict[str, dict[str, float]] = {}
        imports = 0.0
        time_s, dt_s = before.time_s, after.dt_s
        earlier, later = before.devices, after.devices
        for name, devices in self._microgrids.items():
            own: dict[str, float] = {}
            running = stored = 0.0
            for device, config in devices:
                was, now = earlier[device], later[device]
                own[device] = paid = config.cost_usd(was, now, time_s, dt_s)
                running += paid
                if now.soc is not None:
                    stored += config.stored_mwh(now) - config.stored_mwh(was)
            imported = -after.meters[name].p_mw
            imports += imported
            device_costs[name] = own
            cost[name] = running + price * imported * h - store_value * stored
        cost[self._dso] = price * (after.meters[HEAD].p_mw - imports) * h
        violation = 0.0
        safety: dict[str, float] = {}
        for name in cost:
            area = after.areas[name]
            violation += (beyond := area.violation_pu)
            safety[name] = (beyond + area.overload_pu) * h
        return self._settle(after, cost, device_costs, safety, violation)

    def _mean_price(self, time_s: float) -> float:
        """Return the mean price of a day, remembered until another day is asked for."""
        day = time_s // DAY_S
        if self._mean_of_day[0] != day:
            prices = self._profiles.day_ahead(time_s, self._price)
            self._mean_of_day = (day, sum(prices) / len(prices))
        return self._mean_of_day[1]

    def _settle(
        self,
        after: Measurements,
        cost: dict[str, float],
        device_costs: dict[str, dict[str, float]],
        safety: dict[str, float],
        violation_pu: float,
    ) -> StepAccounts:
        total_cost, total_safety = sum(cost.values()), sum(safety.values())
        total = -total_cost - self._penalty * total_safety
        share = total / len(self._microgrids)
        agents: dict[str, AgentAccounts] = {}
        for name, paid in cost.items():
            if name == self._dso:
                reward = -paid - self._penalty * safety[name]
            elif self._share:
                reward = share
            else:
                reward = -paid - self._penalty * (safety[name] + safety[self._dso])
            area = after.areas[name]
            agents[name] = AgentAccounts(
                reward,
                paid,
                safety[name],
                area.v_min_pu,
                area.v_max_pu,
                device_costs.get(name, {}),
            )
        return StepAccounts(agents, total, total_cost, total_safety, violation_pu)


def account(setup: Setup, before: Measurements, after: Measurements) -> StepAccounts:
    """Return the account of one step; a loop over steps keeps an `Accountant` instead.

    Raises:
        ConfigError: A device, meter or area of the setup is not in the measurements.
    """
    return Accountant(setup).account(before, after)
