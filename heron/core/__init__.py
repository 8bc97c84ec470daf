"""State, action, observation and visibility: what every agent is made of."""

from heron.core.action import Action
from heron.core.features import (
    FeatureProvider,
    Vector,
    feature_class,
    registered_features,
    snake_case,
)
from heron.core.observation import Observation
from heron.core.policy import Policy
from heron.core.spaces import Box, Mixed, MultiDiscrete, Space
from heron.core.state import (
    CoordinatorAgentState,
    FieldAgentState,
    State,
    StateSnapshot,
    SystemAgentState,
)
from heron.core.streams import stream
from heron.core.visibility import (
    COORDINATOR_LEVEL,
    FIELD_LEVEL,
    PROXY_LEVEL,
    SYSTEM_LEVEL,
    VISIBILITIES,
    can_observe,
)

__all__ = [
    "COORDINATOR_LEVEL",
    "FIELD_LEVEL",
    "PROXY_LEVEL",
    "SYSTEM_LEVEL",
    "VISIBILITIES",
    "Action",
    "Box",
    "CoordinatorAgentState",
    "FeatureProvider",
    "FieldAgentState",
    "Mixed",
    "MultiDiscrete",
    "Observation",
    "Policy",
    "Space",
    "State",
    "StateSnapshot",
    "SystemAgentState",
    "Vector",
    "can_observe",
    "feature_class",
    "registered_features",
    "snake_case",
    "stream",
]
