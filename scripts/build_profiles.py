"""Build the data set of a shipped setup: measured profiles of SimBench, price by a formula.

Run it with the development packages installed:

    python scripts/build_profiles.py heron/powergrid/setups/ieee34_ieee13/data.csv.gz

The result is the same byte for byte on every run, so that a change shows in the history.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import simbench

FloatArray = npt.NDArray[np.float64]

ROWS = 366 * 96
STEP_S = 900
SCENARIO = "1-complete_data-mixed-all-0-sw"
LOADS = (
    "mv_rural",
    "mv_semiurb",
    "mv_comm",
    "mv_urban",
    "lv_rural1",
    "lv_semiurb4",
    "lv_urban6",
    "G0-M",
    "G3-A",
    "H0-H",
    "L0-A",
)
SOLAR = ("PV1", "PV3", "PV5")
WIND = "WP4"
PRICE_SEED = 2016


def hourly_price(days: int = 366, seed: int = PRICE_SEED) -> FloatArray:
    """Return a synthetic day-ahead price for each hour of 2016, $/MWh.

    No measured series with an open licence was found in a package. The formula gives a
    double peak, a midday dip that is deeper in summer and at week-ends, a daily and an
    hourly AR(1) and rare spikes; docs/setups.md has it in full.
    """
    rng = np.random.default_rng(seed)
    hours = np.arange(24 * days)
    hour, day = hours % 24, hours // 24
    weekend = (day + 4) % 7 >= 5  # 1 January 2016 was a Friday; Monday is 0

    def bump(middle: float, width: float) -> FloatArray:
        return np.asarray(np.exp(-0.5 * ((hour - middle) / width) ** 2))

    def autoregressive(size: int, coefficient: float, deviation: float) -> FloatArray:
        noise = rng.standard_normal(size) * deviation
        noise[1:] *= np.sqrt(1.0 - coefficient**2)
        series = np.zeros(size)
        for k, value in enumerate(noise):
            series[k] = value + (coefficient * series[k - 1] if k else 0.0)
        return series

    daily = autoregressive(days, 0.8, 8.0)
    hourly = autoregressive(hours.size, 0.9, 5.0)
    summer = 0.5 * (1.0 - np.cos(2.0 * np.pi * (day + 10) / 366))
    price = (
        43.0
        + 6.0 * np.cos(2.0 * np.pi * (day - 15) / 366)
        - 6.0 * weekend
        + daily[day]
        - 10.0 * bump(3.5, 3.0)
        + 10.0 * bump(8.0, 1.8)
        + 20.0 * bump(19.0, 2.2)
        - (6.0 + 16.0 * summer + 8.0 * weekend) * bump(13.0, 2.5)
        + hourly
    )
    evening = (hour >= 16) & (hour <= 21)
    spikes = rng.random(hours.size) < np.where(evening, 0.008, 0.001)
    price = price + spikes * (40.0 + rng.exponential(60.0, hours.size))
    return np.asarray(np.clip(price, -30.0, 400.0))


def scaled(values: FloatArray, name: str, *, over_rows: int) -> FloatArray:
    """Scale a profile by the year's greatest mean over so many rows.

    Wind turbines at standstill draw up to 1e-5 of their rating in SimBench: that becomes 0.

    Raises:
        ValueError: It has gaps, negative values or another length than the year.
    """
    if values.shape != (ROWS,) or not np.isfinite(values).all() or values.min() < -1e-4:
        raise ValueError(f"{name}: expected {ROWS} finite values that are not negative")
    peak = values.reshape(-1, over_rows).mean(axis=1).max()
    return np.asarray(np.maximum(values, 0.0) / peak)


def read_columns(path: Path, names: Sequence[str]) -> dict[str, FloatArray]:
    """Read some columns of a SimBench table."""
    with path.open(encoding="utf-8") as file:
        header = file.readline().strip().split(";")
    numbers = [header.index(name) for name in names]
    table = np.loadtxt(path, delimiter=";", skiprows=1, usecols=numbers)
    return dict(zip(names, table.T, strict=True))


def build() -> dict[str, FloatArray]:
    """Return the columns of the data set.

    Loads are scaled by their greatest hourly mean, so that a few quarter hours exceed 1; sun
    and wind by their greatest value, which is what a rating means.
    """
    folder = Path(simbench.__file__).parent / "networks" / SCENARIO
    loads = read_columns(folder / "LoadProfile.csv", [f"{name}_pload" for name in LOADS])
    weather = read_columns(folder / "RESProfile.csv", [*SOLAR, WIND])
    columns: dict[str, FloatArray] = {"time_s": np.arange(ROWS, dtype=np.float64) * STEP_S}
    for name in LOADS:
        columns[name] = scaled(loads[f"{name}_pload"], name, over_rows=4)
    for name in SOLAR:
        columns[name] = scaled(weather[name], name, over_rows=1)
    columns["wind"] = scaled(weather[WIND], WIND, over_rows=1)
    columns["price"] = np.repeat(hourly_price(), 3600 // STEP_S)
    return columns


def to_csv(columns: dict[str, FloatArray]) -> str:
    """Write four decimals for shares and cents for the price; trailing zeros are left out."""
    formats = {"time_s": 0, "price": 2}
    rounded = [np.round(values, formats.get(name, 4)) + 0.0 for name, values in columns.items()]
    out = io.StringIO()
    out.write(",".join(columns) + "\n")
    for row in zip(*(column.tolist() for column in rounded), strict=True):
        out.write(",".join(f"{value:.9g}" for value in row) + "\n")
    return out.getvalue()


def main(argv: list[str]) -> int:
    """Write the data set to the path given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args(argv).out
    with (
        out.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=9, mtime=0) as packed,
    ):
        packed.write(to_csv(build()).encode("ascii"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
