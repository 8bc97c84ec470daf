"""What a device does when nobody tells it, and how it comes back without a bump."""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from heron.powergrid.device_configs import DeviceConfig, InverterSourceConfig, StorageConfig
from heron.powergrid.ieee1547 import autonomous_setpoint
from heron.powergrid.quantities import DeviceReading, Setpoint


class FallbackRule(Protocol):
    """A local rule for times without commands or without data."""

    @property
    def safe(self) -> Setpoint:
        """What is safe whatever the grid does; needs no data."""
        ...

    def setpoint(self, reading: DeviceReading | None) -> Setpoint:
        """Return what to do; ``reading`` is None when data cannot be trusted."""
        ...


class SafeSetpoint:
    """The configured safe set-point, always."""

    def __init__(self, config: DeviceConfig) -> None:
        self._safe = config.safe_setpoint

    @property
    def safe(self) -> Setpoint:
        """The configured one."""
        return self._safe

    def setpoint(self, reading: DeviceReading | None) -> Setpoint:
        """Return the configured one, whatever is read."""
        del reading
        return self._safe


class Ieee1547Curves:
    """What an inverter does by itself: the default volt-var and volt-watt curves, category B.

    Without a voltage that can be trusted it is the safe set-point.

    Source: IEEE Std 1547-2018, 5.3.3 and 5.4.2; see `heron.powergrid.ieee1547`.
    """

    def __init__(self, config: DeviceConfig) -> None:
        self._config = config
        self._safe = config.safe_setpoint

    @property
    def safe(self) -> Setpoint:
        """The configured one."""
        return self._safe

    def setpoint(self, reading: DeviceReading | None) -> Setpoint:
        """Return the safe active power as far as volt-watt allows, and volt-var."""
        if reading is None:
            return self._safe
        return autonomous_setpoint(self._config, reading.v_pu, self._safe.p_mw)


class FallbackName(StrEnum):
    """Fallback rules that can be configured."""

    SAFE = "safe"
    IEEE1547 = "ieee1547"


def make_fallback(name: FallbackName, config: DeviceConfig) -> FallbackRule:
    """Return the rule; a device that is no inverter keeps its safe set-point."""
    inverter = isinstance(config, (InverterSourceConfig, StorageConfig))
    if name is FallbackName.IEEE1547 and inverter:
        return Ieee1547Curves(config)
    return SafeSetpoint(config)


class BumplessReturn:
    """After a fallback or an operator's order, leads from what the device holds to what is wanted.

    The way is linear over ``over_s`` plant seconds, so a return is never a step; with control
    intervals longer than that it takes one interval.
    """

    def __init__(self, over_s: float = 60.0) -> None:
        if over_s <= 0:
            raise ValueError(f"over_s {over_s}: expected > 0")
        self._over_s = over_s
        self._left_s = 0.0
        self._held: Setpoint | None = None

    def start(self, shown: Setpoint | None = None) -> None:
        """Begin a return from what was written last; where nothing was, from what it shows."""
        self._left_s = self._over_s
        self._held = shown if self._held is None else self._held

    def forget(self) -> None:
        """Others may have told the device what it does now."""
        self._held = None

    def holds(self, setpoint: Setpoint) -> None:
        """Note what was written last."""
        self._held = setpoint

    def towards(self, wanted: Setpoint, dt_s: float) -> Setpoint:
        """Return the set-point for the next ``dt_s`` plant seconds."""
        if self._left_s <= 0 or self._held is None:
            return wanted
        share = min(1.0, dt_s / self._left_s)
        self._left_s -= dt_s
        held = self._held
        return wanted._replace(
            p_mw=held.p_mw + share * (wanted.p_mw - held.p_mw),
            q_mvar=held.q_mvar + share * (wanted.q_mvar - held.q_mvar),
        )
