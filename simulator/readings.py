"""From a solved power flow to what devices and meters show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan

from heron.powergrid.networks import Grid
from heron.powergrid.quantities import DeviceReading, MeterReading
from simulator.engines.base import Solution
from simulator.fleet import FleetAdvance


def _voltages(phases: Sequence[float]) -> tuple[float, float, float]:
    """Return mean, lowest and highest of the phases that are there (not NaN)."""
    a, b, c = phases
    total = a + b + c
    if not isnan(total):
        return total / 3.0, min(a, b, c), max(a, b, c)
    present = [v for v in phases if not isnan(v)]
    return sum(present) / len(present), min(present), max(present)


def device_readings(
    device_ids: Sequence[str], done: FleetAdvance, solution: Solution
) -> dict[str, DeviceReading]:
    """Return what each device shows at its terminals."""
    rows = zip(
        device_ids,
        done.p_mw.tolist(),
        done.q_mvar.tolist(),
        solution.device_v_pu.tolist(),
        done.soc.tolist(),
        done.available_mw.tolist(),
        done.connected.tolist(),
        strict=True,
    )
    return {
        name: DeviceReading(
            p,
            q,
            *_voltages(v),
            None if isnan(soc) else soc,
            None if isnan(available) else available,
            connected,
        )
        for name, p, q, v, soc, available, connected in rows
    }


def meter_readings(grid: Grid, solution: Solution) -> Mapping[str, MeterReading]:
    """Return the head's meter, which counts supply, and one per microgrid, counting export."""
    meters = {
        "head": MeterReading(
            solution.source_p_mw, solution.source_q_mvar, *_voltages(solution.head_v_pu.tolist())
        )
    }
    rows = zip(
        grid.microgrids,
        solution.pcc_p_mw.tolist(),
        solution.pcc_q_mvar.tolist(),
        solution.pcc_v_pu.tolist(),
        strict=True,
    )
    for microgrid, p, q, v in rows:
        meters[microgrid.name] = MeterReading(p, q, *_voltages(v))
    return meters
