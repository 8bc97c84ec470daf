"""From a solved power flow to what devices and meters show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

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


def device_readings(
    device_ids: Sequence[str], done: FleetAdvance, volts: Sequence[Sequence[float]]
) -> dict[str, DeviceReading]:
    """Return what each device shows at its terminals.

    Args:
        device_ids: Their names.
        done: What they did.
        volts: Mean, lowest and highest voltage of each.
    """
    rows = zip(
        device_ids,
        done.p_mw.tolist(),
        done.q_mvar.tolist(),
        volts,
        done.soc.tolist(),
        done.available_mw.tolist(),
        done.connected.tolist(),
        strict=True,
    )
    return {
        name: DeviceReading(
            p,
            q,
            mean,
            low,
            high,
            None if isnan(soc) else soc,
            None if isnan(available) else available,
            connected,
        )
        for name, p, q, (mean, low, high), soc, available, connected in rows
    }


def meter_readings(
    grid: Grid, solution: Solution, volts: Sequence[Sequence[float]]
) -> Mapping[str, MeterReading]:
    """Return the head's meter, which counts supply, and one per microgrid, counting export.

    Args:
        grid: The network.
        solution: Its solution.
        volts: Mean, lowest and highest voltage of each meter.
    """
    meters = {"head": MeterReading(solution.source_p_mw, solution.source_q_mvar, *volts[0])}
    rows = zip(
        grid.microgrids,
        solution.pcc_p_mw.tolist(),
        solution.pcc_q_mvar.tolist(),
        volts[1:],
        strict=True,
    )
    for microgrid, p, q, v in rows:
        meters[microgrid.name] = MeterReading(p, q, *v)
    return meters
