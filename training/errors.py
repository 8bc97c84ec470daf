"""What can go wrong in training beyond the errors of the library."""

from __future__ import annotations

from heron.errors import HeronError


class TrainingError(HeronError):
    """Training cannot start or go on."""


class TrainingDiverged(TrainingError):
    """Training produced a value that is not finite, or broke one of its own rules."""
