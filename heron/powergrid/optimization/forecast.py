"""What an optimiser assumes about the coming steps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from heron.powergrid.networks import Grid
from heron.powergrid.setups import Setup, device_profile_name, load_profile_names

FloatArray = npt.NDArray[np.float64]
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Loads, sources and prices of T steps of equal length.

    Attributes:
        start_s: Plant time at which the first step begins.
        step_s: Length of a step.
        load_scale: (T, n_loads) multiplier on each load's nominal consumption.
        profile: (T, n_devices) profile of each device; 1 without one.
        price: (T,) $/MWh.
        store_price: Value of stored energy at the end, $/MWh before its discount.
    """

    start_s: float
    step_s: float
    load_scale: FloatArray
    profile: FloatArray
    price: FloatArray
    store_price: float

    @property
    def n_steps(self) -> int:
        """T."""
        return len(self.price)

    @property
    def hours(self) -> float:
        """Length of a step in hours."""
        return self.step_s / 3600.0


def perfect_forecast(
    setup: Setup, grid: Grid, start_s: float, n_steps: int, step_s: float
) -> Forecast:
    """Return what will really happen: the profiles' means over each step."""
    config, profiles = setup.config, setup.profiles
    rows = np.array([profiles.means(start_s + k * step_s, step_s) for k in range(n_steps)])
    ones = np.ones(n_steps)

    def column(name: str | None) -> FloatArray:
        return ones if name is None else rows[:, profiles.index(name)]

    count: dict[str, int] = defaultdict(int)
    loads = []
    for load in grid.loads:
        choice = load_profile_names(config, profiles, load.area)
        loads.append(column(choice[count[load.area] % len(choice)]))
        count[load.area] += 1
    devices = [
        column(device_profile_name(config.device(d.device_id).device_state_config, profiles))
        for d in grid.devices
    ]
    days = np.unique((start_s + step_s * np.arange(n_steps)) // DAY_S) * DAY_S
    means = [np.mean(profiles.day_ahead(float(t), config.price_profile)) for t in days]
    return Forecast(
        start_s=start_s,
        step_s=step_s,
        load_scale=np.array(loads).T.reshape(n_steps, -1),
        profile=np.array(devices).T.reshape(n_steps, -1),
        price=column(config.price_profile),
        store_price=float(np.mean(means)),
    )
