"""What an optimiser assumes about the coming steps."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from heron.powergrid.accounting import lasts_several_days
from heron.powergrid.networks import Grid
from heron.powergrid.setups import (
    Setup,
    device_profile_name,
    load_profile_names,
    price_outlook,
)

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
        store_price_now: The same at the start; None: as at the end.
    """

    start_s: float
    step_s: float
    load_scale: FloatArray
    profile: FloatArray
    price: FloatArray
    store_price: float
    store_price_now: float | None = None

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
    """Return what will really happen: the profiles' means over each step.

    Over several days stored energy is valued as the accounts do it: by the day that begins.
    """
    starts = start_s + step_s * np.arange(n_steps, dtype=np.float64)
    found = _forecast(setup, grid, start_s, step_s, (starts, starts))
    if not lasts_several_days(setup.config) or n_steps * step_s <= DAY_S:
        return found
    now, then = (
        float(np.mean(setup.profiles.day_ahead(time_s, setup.config.price_profile)))
        for time_s in (start_s, start_s + n_steps * step_s)
    )
    return replace(found, store_price=then, store_price_now=now)


def naive_forecast(
    setup: Setup, grid: Grid, start_s: float, n_steps: int, step_s: float
) -> Forecast:
    """Return what a site without a forecast assumes.

    Loads and sources are yesterday's; prices are those that agents know or expect today
    (`heron.powergrid.setups.price_outlook`), and after midnight the same again. Without any
    outlook they are yesterday's, too.
    """
    starts = start_s + step_s * np.arange(n_steps, dtype=np.float64)
    midnight = (start_s // DAY_S + 1.0) * DAY_S
    priced = np.where(starts < midnight, starts, starts - DAY_S).astype(np.float64)
    yesterday = np.asarray((starts - DAY_S) % (setup.profiles.n_days * DAY_S))
    expected = price_outlook(setup.config, setup.profiles, start_s)
    found = _forecast(setup, grid, start_s, step_s, (yesterday, priced if expected else yesterday))
    if not expected:
        return found
    ends = priced % DAY_S + step_s
    total = np.concatenate([[0.0], np.cumsum(expected)])
    at = np.arange(len(total)) * (DAY_S / len(expected))
    means = np.diff(np.stack([np.interp(x, at, total) for x in (priced % DAY_S, ends)]), axis=0)[0]
    rows = step_s / (DAY_S / len(expected))
    return replace(found, price=means / rows, store_price=float(np.mean(expected)))


def held_forecast(
    setup: Setup, grid: Grid, start_s: float, n_steps: int, step_s: float
) -> Forecast:
    """Return loads and sources of the control step before, held; prices as in `naive_forecast`."""
    year_s = setup.profiles.n_days * DAY_S
    before = np.full(n_steps, (start_s - setup.config.step_s) % year_s)
    priced = naive_forecast(setup, grid, start_s, n_steps, step_s)
    held = _forecast(setup, grid, start_s, step_s, (before, before))
    return replace(held, price=priced.price, store_price=priced.store_price)


def _forecast(
    setup: Setup, grid: Grid, start_s: float, step_s: float, starts: tuple[FloatArray, FloatArray]
) -> Forecast:
    """Return the profiles' means over steps from given starts: of loads and sources, of prices."""
    config, profiles = setup.config, setup.profiles
    rows, priced = (profiles.means_at(times, step_s) for times in starts)
    n_steps = len(rows)
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
    days = np.unique(starts[1] // DAY_S) * DAY_S
    means = [np.mean(profiles.day_ahead(float(t), config.price_profile)) for t in days]
    return Forecast(
        start_s=start_s,
        step_s=step_s,
        load_scale=np.array(loads).T.reshape(n_steps, -1),
        profile=np.array(devices).T.reshape(n_steps, -1),
        price=priced[:, profiles.index(config.price_profile)],
        store_price=float(np.mean(means)),
    )
