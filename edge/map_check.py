"""Whether a custom register map suits the device that it is to drive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from heron.errors import ConfigProblem
from heron.powergrid.device_base import DeviceConfig
from heron.powergrid.device_configs import ANY_POWER_MW, TransformerConfig
from heron.powergrid.registers.custom import MapConfig
from heron.powergrid.registers.table import Register

COARSEST_STEP = 0.1
"""Of a set-point, in parts of the device's largest power: rounding may go past a limit by half."""

NO_REACTIVE_POWER = (0.0, 0.0)


def map_problems(
    config: DeviceConfig, described: MapConfig, reversion_s: float | None, source: Path
) -> Iterator[ConfigProblem]:
    """Yield what a map lacks to drive a device within its limits, or cannot hold.

    Args:
        config: The device's limits and safe set-point.
        described: Its map.
        reversion_s: Time-out that is written with each set-point.
        source: The map's file.
    """
    for name, why in _needed(config):
        if name not in described.points:
            yield ConfigProblem(f"points.{name}", None, f"expected this point: {why}", str(source))
    registers = described.registers()
    for name, values in _told(config, reversion_s).items():
        register = registers.get(name)
        # What the device's own exponent makes of it is known at run time only.
        if register is not None and not register.scale_factor:
            yield from _holds(register, values, source)
            yield from _fine_enough(register, values, source)


def _needed(config: DeviceConfig) -> Iterator[tuple[str, str]]:
    """Yield the points without which every command would be refused or lost, and why."""
    yield "v_pu", "no device is driven without a voltage"
    if isinstance(config, TransformerConfig):
        yield "tap", "it is a tap changer"
        return
    yield "p_mw", "it is to be driven"
    if config.storage_limits is not None:
        yield "soc", f"{type(config).__name__} stores energy"
    low, high = config.q_range_mvar
    if (low, high) != NO_REACTIVE_POWER:
        reason = f"its limits allow {low:g} to {high:g} Mvar; without it they must be 0"
        yield "q_mvar", reason
        yield "q_set_mvar", reason


def _told(config: DeviceConfig, reversion_s: float | None) -> dict[str, tuple[float, ...]]:
    """Return what each point of a command must hold."""
    timeout = 0.0 if reversion_s is None else float(math.ceil(reversion_s))
    safe = config.safe_setpoint
    told: dict[str, tuple[float, ...]] = {
        "enable": (0.0, 1.0),
        "reversion_s": (timeout,),
        "q_reversion_s": (timeout,),
    }
    if isinstance(config, TransformerConfig):
        taps = config.tap_limits
        told["tap_set"] = (float(taps.tap_min), float(taps.tap_max))
    else:
        told |= {
            "p_set_mw": (*config.p_range_mw, safe.p_mw),
            "q_set_mvar": (*config.q_range_mvar, safe.q_mvar),
            "p_reversion_mw": (safe.p_mw,),
            "q_reversion_mvar": (safe.q_mvar,),
        }
    return told


def _holds(register: Register, values: tuple[float, ...], source: Path) -> Iterator[ConfigProblem]:
    for value in dict.fromkeys(values):
        if abs(value) >= ANY_POWER_MW:
            continue  # nobody said how much it may be
        try:
            register.encode(value)
        except ValueError as error:
            expected = f"expected to hold {value:g} {register.unit}".rstrip()
            where = f"points.{register.name}.type"
            yield ConfigProblem(where, str(register.type), f"{expected}: {error}", str(source))


def _fine_enough(
    register: Register, values: tuple[float, ...], source: Path
) -> Iterator[ConfigProblem]:
    most = max(abs(value) for value in values)
    step = abs(register.resolution)
    if register.name in {"p_set_mw", "q_set_mvar"} and 0.0 < most < step / COARSEST_STEP:
        expected = f"steps of {step:g}, expected at most a tenth of the largest power, {most:g}"
        where = f"points.{register.name}.scale"
        yield ConfigProblem(where, register.scale, expected, str(source))
