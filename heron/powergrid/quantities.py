"""What is measured and what is commanded: the types that every room shares.

Sign: positive = injects into the grid, for every device and meter. A generator that runs, a
battery that discharges, a microgrid that exports and an upstream grid that supplies are all
positive. Powers are in MW and Mvar (three-phase totals), voltages in pu of the bus's nominal
voltage, states of charge 0-1, times in seconds of plant time since the start of the data year.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple


class Setpoint(NamedTuple):
    """What a device is asked to do.

    Attributes:
        p_mw: Active power, positive = injects. For PV and wind it is a ceiling.
        q_mvar: Reactive power, positive = injects.
        tap: Position of a tap changer; None leaves it to the device, which keeps its position
            or, if it has a control of its own, regulates its voltage.
    """

    p_mw: float
    q_mvar: float = 0.0
    tap: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """What a device shows at its terminals.

    Attributes:
        p_mw: Active power over the last step.
        q_mvar: Reactive power over the last step.
        v_pu: Mean of the phase voltages.
        v_min_pu: Lowest phase voltage; equals ``v_pu`` on a balanced engine.
        v_max_pu: Highest phase voltage.
        soc: State of charge at the end of the step; None where nothing is stored.
        available_mw: Power that sun or wind would allow; None where it is not measured.
        connected: False when the device has tripped or is out of service.
        tap: Position of its tap changer; None where there is none.
        loading_pct: Loading of a rated transformer; None where it is not known.
    """

    p_mw: float
    q_mvar: float
    v_pu: float
    v_min_pu: float
    v_max_pu: float
    soc: float | None = None
    available_mw: float | None = None
    connected: bool = True
    tap: int | None = None
    loading_pct: float | None = None


@dataclass(frozen=True, slots=True)
class MeterReading:
    """What a meter shows.

    A microgrid's meter counts the microgrid as the element: positive = it exports into the
    feeder. The head's meter counts the upstream grid: positive = it supplies the feeder.
    """

    p_mw: float
    q_mvar: float
    v_pu: float
    v_min_pu: float
    v_max_pu: float


class ClipReason(StrEnum):
    """Why a set-point was not carried out as asked."""

    POWER_LIMIT = "power_limit"
    APPARENT_POWER = "apparent_power"
    RAMP = "ramp"
    STATE_OF_CHARGE = "state_of_charge"
    AVAILABILITY = "availability"
    VOLTAGE = "voltage"
    MINIMUM_TIME = "minimum_time"
    DISCONNECTED = "disconnected"
    NOT_FINITE = "not_finite"
    STALE_DATA = "stale_data"
    DEVICE_RULE = "device_rule"
    TAP_RANGE = "tap_range"
    TAP_MOVES = "tap_moves"


@dataclass(frozen=True, slots=True)
class Clip:
    """One set-point that was changed: by the envelope, or by the physics of the device."""

    device_id: str
    asked: Setpoint
    applied: Setpoint
    reasons: tuple[ClipReason, ...]


class AreaReading(NamedTuple):
    """What really happens in one area: the feeder ("DSO") or a microgrid.

    The plant knows this because it is a simulation; no agent may observe it. Costs and
    safety are counted from it.

    Attributes:
        v_min_pu: Lowest node voltage.
        v_max_pu: Highest node voltage.
        undervoltage_pu: Sum over nodes of max(0, lower limit - v).
        overvoltage_pu: Sum over nodes of max(0, v - upper limit).
        violating_nodes: Number of nodes outside the band.
        max_loading_pct: Loading of the most loaded branch.
        overload_pu: Sum over branches of max(0, loading - 100 %) / 100.
        load_mw: Consumption of the loads (positive number; an amount, not an injection).
        violation_pu: Under- and over-voltage together, in pu summed over nodes.
    """

    v_min_pu: float
    v_max_pu: float
    undervoltage_pu: float
    overvoltage_pu: float
    violating_nodes: int
    max_loading_pct: float
    overload_pu: float
    load_mw: float
    violation_pu: float


@dataclass(frozen=True, slots=True)
class Measurements:
    """The state of the plant after a step: immutable, shared by every consumer.

    Attributes:
        step: Number of steps since the reset; 0 right after it.
        time_s: Plant time since the start of the data year.
        dt_s: Length of the step that led here; 0 right after the reset.
        devices: Reading per device id.
        meters: Reading per meter id: "head" and one per microgrid, named as the microgrid.
        areas: Truth per area: "DSO" and one per microgrid.
        price_usd_per_mwh: Price that held during the step (after a reset: that holds now).
        losses_mw: Losses of the whole network.
        clipped: Set-points that the physics changed.
        tap_moves: Steps of regulators and tap changers taken during this step.
        setpoints: What was asked of each device in this step.
    """

    step: int
    time_s: float
    dt_s: float
    devices: Mapping[str, DeviceReading]
    meters: Mapping[str, MeterReading]
    areas: Mapping[str, AreaReading]
    price_usd_per_mwh: float
    losses_mw: float
    clipped: tuple[Clip, ...] = ()
    tap_moves: int = 0
    setpoints: Mapping[str, Setpoint] = field(default_factory=dict)
