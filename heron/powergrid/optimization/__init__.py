"""Optimisation: dispatch over the network, receding-horizon control, and the voltage shield.

Needs the extra ``optimization`` (cvxpy with Clarabel, OSQP); nothing else in the project does.
"""

from heron.powergrid.optimization.dispatch import Dispatch, DispatchError, solve_dispatch
from heron.powergrid.optimization.forecast import (
    Forecast,
    held_forecast,
    naive_forecast,
    perfect_forecast,
)
from heron.powergrid.optimization.greedy import GREEDY_RANGES, GreedyPolicy, GreedySettings
from heron.powergrid.optimization.mpc import MpcPolicy, StoragePlan
from heron.powergrid.optimization.network import RadialNetwork, radial_network
from heron.powergrid.optimization.network_mpc import (
    PLANNER_RANGES,
    NetworkMpc,
    NetworkMpcPolicy,
    PlannerSettings,
    SharedPlan,
    network_planner,
)
from heron.powergrid.optimization.network_projection import NetworkShieldSettings
from heron.powergrid.optimization.network_shield import NetworkShield, ShieldRecord
from heron.powergrid.optimization.network_shielded import NetworkShieldedPolicy
from heron.powergrid.optimization.optimum import Optimum, PlantAccess, find_optimum
from heron.powergrid.optimization.recheck import Recheck, recheck, solve_and_recheck
from heron.powergrid.optimization.shield import Present, ShieldedPolicy, VoltageShield

__all__ = [
    "GREEDY_RANGES",
    "PLANNER_RANGES",
    "Dispatch",
    "DispatchError",
    "Forecast",
    "GreedyPolicy",
    "GreedySettings",
    "MpcPolicy",
    "NetworkMpc",
    "NetworkMpcPolicy",
    "NetworkShield",
    "NetworkShieldSettings",
    "NetworkShieldedPolicy",
    "Optimum",
    "PlannerSettings",
    "PlantAccess",
    "Present",
    "RadialNetwork",
    "Recheck",
    "SharedPlan",
    "ShieldRecord",
    "ShieldedPolicy",
    "StoragePlan",
    "VoltageShield",
    "find_optimum",
    "held_forecast",
    "naive_forecast",
    "network_planner",
    "perfect_forecast",
    "radial_network",
    "recheck",
    "solve_and_recheck",
    "solve_dispatch",
]
