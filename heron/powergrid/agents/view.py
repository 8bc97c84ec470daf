"""All that a microgrid's coordinator may know at one instant."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from heron.powergrid.connection import NO_LIMITS, ConnectionLimits
from heron.powergrid.quantities import DeviceReading, Measurements, MeterReading

if TYPE_CHECKING:
    from heron.powergrid.setups.models import SetupConfig


class MicrogridView(NamedTuple):
    """What the meter and the devices of one microgrid show, and what the DSO says.

    Attributes:
        time_s: Plant time.
        meter: At the microgrid's connection; positive = it exports.
        devices: Reading per device; may hold other microgrids' devices too, which are not
            looked at.
        price_usd_per_mwh: Price now.
        day_ahead: Prices of this plant day in equal steps; empty if they are not known.
        limits: What the DSO lets its connection carry.
        age_s: How old the oldest of the readings is, plant seconds.
    """

    time_s: float
    meter: MeterReading
    devices: Mapping[str, DeviceReading]
    price_usd_per_mwh: float
    day_ahead: tuple[float, ...] = ()
    limits: ConnectionLimits = NO_LIMITS
    age_s: float = 0.0


def views_of(
    config: SetupConfig, measurements: Measurements, day_ahead: Iterable[float]
) -> dict[str, MicrogridView]:
    """Return every microgrid's view of the plant's measurements.

    Args:
        config: The setup.
        measurements: Of the plant.
        day_ahead: Prices of the plant day on which ``measurements.time_s`` lies.
    """
    prices = tuple(day_ahead)
    return {
        name: MicrogridView(
            measurements.time_s,
            measurements.meters[name],
            measurements.devices,
            measurements.price_usd_per_mwh,
            prices,
            microgrid.limits,
        )
        for name, microgrid in zip(config.microgrid_ids, config.microgrid_configs, strict=True)
    }
