"""Who may do what to a device: the state machine of `heron.powergrid.modes`."""

from heron.powergrid.modes import (
    DRIVING,
    TRANSITIONS,
    Authority,
    Changed,
    Kept,
    Mode,
    ModeMachine,
    ModeOutcome,
    Refused,
    authority_of,
)

__all__ = [
    "DRIVING",
    "TRANSITIONS",
    "Authority",
    "Changed",
    "Kept",
    "Mode",
    "ModeMachine",
    "ModeOutcome",
    "Refused",
    "authority_of",
]
