"""Draw a setup's year: the voltages of doing nothing and of volt-var, and two of its days.

    python scripts/plot_setup.py ieee34_ieee13 docs/images/ieee34_ieee13.png

Needs matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from check_setup import controllers
from matplotlib.figure import Figure

from heron.powergrid.setups import Setup, read_setup
from simulator import BatchPlant

FloatArray = npt.NDArray[np.float64]
CHUNK = 61
SHOWN_DAYS = {"17 January": 16, "20 August": 232}


def envelopes(setup: Setup, controller: str) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return lowest and highest voltage (n_days,) and the head's power (n_days, n_steps)."""
    lows, highs, heads = [], [], []
    step_s = setup.config.step_s
    for chunk in np.array_split(np.arange(setup.profiles.n_days), setup.profiles.n_days // CHUNK):
        plant = BatchPlant(setup, len(chunk))
        seen = plant.reset(chunk * 86_400.0)
        act = controllers(setup, 0)[controller](plant)
        low, high, head = [], [], []
        for _ in range(round(86_400.0 / step_s)):
            seen = plant.step(*act(seen), step_s)
            low.append(seen.areas.v_min_pu.min(axis=1))
            high.append(seen.areas.v_max_pu.max(axis=1))
            head.append(seen.meter_p_mw[:, 0])
        lows.append(np.min(low, axis=0))
        highs.append(np.max(high, axis=0))
        heads.append(np.array(head).T)
    return np.concatenate(lows), np.concatenate(highs), np.concatenate(heads)


def draw(setup: Setup) -> Figure:
    """Draw the figure."""
    figure = Figure(figsize=(10, 9), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1)
    days = np.arange(setup.profiles.n_days)
    band = setup.config.v_limits_pu
    for axes, controller in ((top, "idle"), (middle, "volt-var")):
        low, high, head = envelopes(setup, controller)
        axes.fill_between(days, low, high, step="mid", color="#9ecae1", linewidth=0)
        for limit in band:
            axes.axhline(limit, color="#b30000", linewidth=0.8)
        outside = (low < band[0]) | (high > band[1])
        axes.plot(days[outside], np.full(outside.sum(), band[0] - 0.02), "|", color="#b30000")
        axes.set(
            title=f"{controller}: {outside.mean():.0%} of days leave the band (red marks)",
            ylabel="lowest to highest voltage, pu",
            xlim=(0, len(days)),
            ylim=(band[0] - 0.025, band[1] + 0.025),
        )
        if controller == "idle":
            idle_head = head
    middle.set_xlabel("day of the year")
    price = bottom.twinx()
    for (label, day), colour in zip(SHOWN_DAYS.items(), ("#08519c", "#d95f0e"), strict=True):
        hours = np.arange(idle_head.shape[1]) * setup.config.step_s / 3600.0
        bottom.plot(hours, idle_head[day], color=colour, label=f"{label}: head, MW")
        prices = setup.profiles.day_ahead(day * 86_400.0, setup.config.price_profile)
        at = np.arange(len(prices)) * setup.profiles.step_s / 3600.0
        price.step(at, prices, ":", color=colour, where="post", label=f"{label}: price, $/MWh")
    bottom.set(
        xlabel="hour", ylabel="power from upstream, MW", xlim=(0, 24), title="two days, idle"
    )
    price.set_ylabel("price, $/MWh")
    figure.legend(loc="outside lower center", ncols=4)
    figure.suptitle(setup.config.name)
    return figure


def main(argv: list[str]) -> int:
    """Write the figure to the path given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("setup")
    parser.add_argument("out", type=Path)
    args = parser.parse_args(argv)
    draw(read_setup(args.setup)).savefig(args.out, dpi=75, metadata={"Software": None})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
