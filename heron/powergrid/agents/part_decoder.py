"""From a device's part of a joint action to the set-point that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from heron.policy.codec import Decoder, SetpointSpec
from heron.powergrid.agents.terminals import Terminals
from heron.powergrid.quantities import Setpoint

_make = tuple.__new__


class PartDecoder(Protocol):
    """Turns finite plain numbers into a set-point."""

    def setpoint(self, values: Sequence[float], start: int) -> Setpoint:
        """Return the set-point of the device whose part begins at ``start``."""
        ...


class PowerDecoder:
    """For active, then reactive power: what nearly all devices are told."""

    __slots__ = ("_p", "_q")

    def __init__(self, p: Decoder, q: Decoder) -> None:
        self._p = p
        self._q = q

    def setpoint(self, values: Sequence[float], start: int) -> Setpoint:
        """Return the set-point of the device whose part begins at ``start``."""
        p, q = self._p.decode(values[start]), self._q.decode(values[start + 1])
        # as Setpoint() does, in half the time: every device decodes at every step
        return _make(Setpoint, (p, q, None))


class AnyDecoder:
    """For any quantities in any order; what no number is for stays as it is."""

    __slots__ = ("_decoders", "_terminals")

    def __init__(self, specs: Sequence[SetpointSpec], terminals: Terminals) -> None:
        self._decoders = [(spec.quantity, Decoder(spec)) for spec in specs]
        self._terminals = terminals

    def setpoint(self, values: Sequence[float], start: int) -> Setpoint:
        """Return the set-point of the device whose part begins at ``start``."""
        p, q, tap = self._terminals.setpoint
        for i, (quantity, decoder) in enumerate(self._decoders, start):
            if quantity == "p_mw":
                p = decoder.decode(values[i])
            elif quantity == "q_mvar":
                q = decoder.decode(values[i])
            elif quantity == "tap":
                tap = round(decoder.decode(values[i]))
        return Setpoint(p, q, tap)


def part_decoder(specs: Sequence[SetpointSpec], terminals: Terminals) -> PartDecoder:
    """Return the decoder for what a device is told, in the order of its specifications."""
    if [spec.quantity for spec in specs] == ["p_mw", "q_mvar"]:
        p, q = specs
        return PowerDecoder(Decoder(p), Decoder(q))
    return AnyDecoder(specs, terminals)
