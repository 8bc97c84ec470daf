"""What all engines agree on: limits of the control loop, and which inputs are no inputs."""

from __future__ import annotations

import numpy as np

from heron.powergrid.networks import Grid
from simulator.engines.base import Injections

MAX_PASSES = 20
"""How often regulators may move within one step."""

BEYOND = "no solution is found; the load is beyond what the network can carry"


def input_fault(grid: Grid, injections: Injections) -> str:
    """Say which input is not a finite number; empty when all are."""
    bad_loads = np.flatnonzero(~np.isfinite(injections.load_scale))
    if len(bad_loads):
        k = int(bad_loads[0])
        return f"load {grid.loads[k].name} has the scale {injections.load_scale[k]}"
    bad = np.flatnonzero(~(np.isfinite(injections.p_mw) & np.isfinite(injections.q_mvar)))
    if len(bad):
        k = int(bad[0])
        asked = f"{injections.p_mw[k]} MW, {injections.q_mvar[k]} Mvar"
        return f"device {grid.devices[k].device_id} injects {asked}"
    return ""
