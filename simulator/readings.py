"""From a solved power flow to what devices and meters show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np

from heron.powergrid.networks import Grid
from heron.powergrid.quantities import DeviceReading, MeterReading
from simulator.engines.base import FloatArray, Solution
from simulator.engines.jit import exact_inner, exact_kernel
from simulator.fleet import FleetAdvance


@exact_inner
def _sum_up(phases_v_pu: FloatArray, out: FloatArray) -> None:
    """Reduce (n, 3) phases, NaN where there is none, to mean, lowest and highest."""
    for k in range(len(phases_v_pu)):
        total, count, low, high = 0.0, 0, np.inf, -np.inf
        for v in phases_v_pu[k]:
            if not np.isnan(v):
                total += v
                count += 1
                low, high = min(low, v), max(high, v)
        if count == 0:
            low = high = np.nan
        out[k, 0], out[k, 1], out[k, 2] = total / count, low, high


@exact_kernel
def _mean_low_high(phases_v_pu: FloatArray, out: FloatArray) -> None:
    _sum_up(phases_v_pu, out)


@exact_kernel
def _voltages(
    head_v_pu: FloatArray, pcc_v_pu: FloatArray, device_v_pu: FloatArray, out: FloatArray
) -> None:
    """Fill mean, lowest and highest voltage of the head, of each microgrid and each device."""
    n = 1 + len(pcc_v_pu)
    _sum_up(head_v_pu.reshape(1, 3), out[:1])
    _sum_up(pcc_v_pu, out[1:n])
    _sum_up(device_v_pu, out[n:])


def mean_low_high(phases_v_pu: FloatArray) -> FloatArray:
    """Reduce (..., 3) phase voltages, NaN where there is none, to mean, lowest and highest."""
    out = np.empty(phases_v_pu.shape)
    _mean_low_high(np.ascontiguousarray(phases_v_pu).reshape(-1, 3), out.reshape(-1, 3))
    return out


def voltages(solution: Solution) -> list[list[float]]:
    """Return mean, lowest and highest voltage of the head, of each microgrid and each device."""
    n = 1 + len(solution.pcc_v_pu) + len(solution.device_v_pu)
    out = np.empty((n, 3))
    _voltages(solution.head_v_pu, solution.pcc_v_pu, solution.device_v_pu, out)
    rows: list[list[float]] = out.tolist()
    return rows


class _OpenDevice:
    """A `DeviceReading` that is being filled: the same fields, and not frozen yet.

    A frozen dataclass sets its fields one by one through a guard, at five times the cost, and
    every device shows a reading at every step. Classes of one layout may be exchanged.
    """

    __slots__ = DeviceReading.__slots__


class _OpenMeter:
    """A `MeterReading` that is being filled; see `_OpenDevice`."""

    __slots__ = MeterReading.__slots__


def _device_reading(  # noqa: PLR0917 - in the order of the fields
    p_mw: float, q_mvar: float, volts: Sequence[float], soc: float, available: float, on: bool
) -> DeviceReading:
    open_: Any = _OpenDevice()
    open_.p_mw = p_mw
    open_.q_mvar = q_mvar
    open_.v_pu, open_.v_min_pu, open_.v_max_pu = volts
    open_.soc = None if isnan(soc) else soc
    open_.available_mw = None if isnan(available) else available
    open_.connected = on
    open_.tap = open_.loading_pct = None
    open_.__class__ = DeviceReading
    reading: DeviceReading = open_
    return reading


def _meter_reading(p_mw: float, q_mvar: float, volts: Sequence[float]) -> MeterReading:
    open_: Any = _OpenMeter()
    open_.p_mw = p_mw
    open_.q_mvar = q_mvar
    open_.v_pu, open_.v_min_pu, open_.v_max_pu = volts
    open_.__class__ = MeterReading
    reading: MeterReading = open_
    return reading


def device_readings(
    device_ids: Sequence[str], done: FleetAdvance, volts: Sequence[Sequence[float]]
) -> dict[str, DeviceReading]:
    """Return what each device shows at its terminals.

    Args:
        device_ids: Their names.
        done: What they did.
        volts: Mean, lowest and highest voltage of each.
    """
    readings = map(
        _device_reading,
        done.p_mw.tolist(),
        done.q_mvar.tolist(),
        volts,
        done.soc.tolist(),
        done.available_mw.tolist(),
        done.connected.tolist(),
    )
    return dict(zip(device_ids, readings, strict=True))


def meter_readings(
    grid: Grid, solution: Solution, volts: Sequence[Sequence[float]]
) -> Mapping[str, MeterReading]:
    """Return the head's meter, which counts supply, and one per microgrid, counting export.

    Args:
        grid: The network.
        solution: Its solution.
        volts: Mean, lowest and highest voltage of each meter.
    """
    meters = {"head": _meter_reading(solution.source_p_mw, solution.source_q_mvar, volts[0])}
    rows = zip(
        grid.microgrids,
        solution.pcc_p_mw.tolist(),
        solution.pcc_q_mvar.tolist(),
        volts[1:],
        strict=True,
    )
    for microgrid, p, q, v in rows:
        meters[microgrid.name] = _meter_reading(p, q, v)
    return meters
