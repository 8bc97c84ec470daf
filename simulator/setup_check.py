"""Whether a setup's plant can be built and solved; for ``heron setups check``."""

from __future__ import annotations

from heron.errors import ConfigError, ConfigProblem, PowerFlowDiverged
from heron.powergrid.setups import Setup
from simulator.plant import Plant


def plant_problems(setup: Setup) -> list[ConfigProblem]:
    """Return why a setup's plant cannot be built, or has no solution with its devices at rest."""
    try:
        Plant(setup)
    except ConfigError as error:
        return list(error.problems)
    except PowerFlowDiverged as error:
        expected = "a network that the engine can solve with its devices at rest"
        return [ConfigProblem("network", str(error), expected)]
    return []
