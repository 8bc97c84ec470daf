"""The one tree of exceptions.

Everything that this project raises on purpose descends from `HeronError`. A library's own
exceptions stop at its adapter and are chained with ``from``. Attributes carry the data that a
caller may want to act on; the message is for people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


class HeronError(Exception):
    """The root: catch this to catch everything that is ours."""


@dataclass(frozen=True, slots=True)
class ConfigProblem:
    """One mistake in a configuration.

    Attributes:
        where: Path of the key, e.g. ``microgrid_configs[0].devices[1].p_max_MW``.
        value: What stood there.
        expected: The accepted range or choices, in words.
        source: File or object that it stood in; empty when it came from code.
    """

    where: str
    value: object
    expected: str
    source: str = ""

    def __str__(self) -> str:
        prefix = f"{self.source}: " if self.source else ""
        return f"{prefix}{self.where} = {self.value!r}: {self.expected}"


class ConfigError(HeronError, ValueError):
    """A configuration is wrong; carries every problem found, not just the first."""

    def __init__(self, problems: Sequence[ConfigProblem] | str) -> None:
        if isinstance(problems, str):
            super().__init__(problems)
            self.problems: tuple[ConfigProblem, ...] = ()
        else:
            super().__init__("\n".join(str(p) for p in problems))
            self.problems = tuple(problems)


class TransportError(HeronError):
    """A link to a device or a broker failed."""


class DeviceTimeout(TransportError):
    """A device did not answer within its deadline."""

    def __init__(self, device: str, timeout_s: float) -> None:
        super().__init__(f"{device}: no answer within {timeout_s} s")
        self.device = device
        self.timeout_s = timeout_s


class DeviceRejected(TransportError):
    """A device answered, and the answer was a refusal or made no sense."""

    def __init__(self, device: str, reason: str, exception_code: int | None = None) -> None:
        super().__init__(f"{device}: {reason}")
        self.device = device
        self.reason = reason
        self.exception_code = exception_code


class BrokerUnavailable(TransportError):
    """No MQTT broker answers at the address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"broker {address}: {reason}")
        self.address = address
        self.reason = reason


class StaleDataError(HeronError):
    """A value is too old or of bad quality, and something wanted to act on it."""


class PolicyError(HeronError):
    """A policy cannot be loaded or gave no usable answer."""


class ManifestMismatch(PolicyError):
    """A policy was made for another observation, action or setup."""


class ExportParityError(PolicyError):
    """The exported policy does not give what the trained one gives."""

    def __init__(self, largest_error: float, tolerance: float) -> None:
        super().__init__(f"largest difference {largest_error:.3g} is above {tolerance:.3g}")
        self.largest_error = largest_error
        self.tolerance = tolerance


class PlantError(HeronError):
    """The plant cannot do what was asked."""


class PowerFlowDiverged(PlantError):
    """No power-flow solution was found; the plant stays as it was."""

    def __init__(self, cause: str, step: int | None = None) -> None:
        at = "" if step is None else f" at step {step}"
        super().__init__(f"power flow diverged{at}: {cause}")
        self.cause = cause
        self.step = step
