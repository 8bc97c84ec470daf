"""Agents: field (L1), coordinator (L2), system (L3), and the proxy (L0)."""

from heron.agents.base import Agent
from heron.agents.coordinator import CoordinatorAgent
from heron.agents.field import FieldAgent
from heron.agents.hierarchical import HierarchicalAgent
from heron.agents.proxy import ProxyAgent
from heron.agents.system import SystemAgent
from heron.core.visibility import COORDINATOR_LEVEL, FIELD_LEVEL, PROXY_LEVEL, SYSTEM_LEVEL

__all__ = [
    "COORDINATOR_LEVEL",
    "FIELD_LEVEL",
    "PROXY_LEVEL",
    "SYSTEM_LEVEL",
    "Agent",
    "CoordinatorAgent",
    "FieldAgent",
    "HierarchicalAgent",
    "ProxyAgent",
    "SystemAgent",
]
