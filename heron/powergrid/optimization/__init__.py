"""Optimisation: dispatch over the network, receding-horizon control, and the voltage shield.

Needs the extra ``optimization`` (cvxpy with Clarabel, OSQP); nothing else in the project does.
"""

from heron.powergrid.optimization.dispatch import Dispatch, DispatchError, solve_dispatch
from heron.powergrid.optimization.forecast import Forecast, perfect_forecast
from heron.powergrid.optimization.mpc import MpcPolicy, StoragePlan
from heron.powergrid.optimization.network import RadialNetwork, radial_network
from heron.powergrid.optimization.network_mpc import NetworkMpc
from heron.powergrid.optimization.recheck import Recheck, recheck, solve_and_recheck
from heron.powergrid.optimization.shield import Present, ShieldedPolicy, VoltageShield

__all__ = [
    "Dispatch",
    "DispatchError",
    "Forecast",
    "MpcPolicy",
    "NetworkMpc",
    "Present",
    "RadialNetwork",
    "Recheck",
    "ShieldedPolicy",
    "StoragePlan",
    "VoltageShield",
    "perfect_forecast",
    "radial_network",
    "recheck",
    "solve_and_recheck",
    "solve_dispatch",
]
