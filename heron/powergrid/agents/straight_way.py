"""How a joint action goes straight to the devices of a coordinator.

It is what the protocol of set-points does, without its messages: each device takes its part of the
action, decodes it and proposes it to its envelope. Every step of training passes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from heron.core import Action
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.part_decoder import PartDecoder
from heron.powergrid.agents.terminals import Terminals

Tell: TypeAlias = Callable[[Sequence[float]], None]
"""Carries out a joint action: plain numbers, finite, as many as it has, which nobody changes."""

_Part: TypeAlias = tuple[Action, int, PartDecoder, Terminals]
"""A device's action, where in the joint one its part starts, who decodes that, and for whom."""

_HOOKS = (
    "apply_action",
    "checked_action",
    "command",
    "on_message",
    "part_decoder",
    "propose",
    "schedule_effect",
    "take_action",
)


class StraightWay:
    """The way from a coordinator's action to its devices' terminals.

    Args:
        joint: The coordinator's action.
        devices: Its devices, in order, whose classes leave this way as it is; see `is_open_to`.

    Attributes:
        told: The joint action that was told last; None where something else decided since.
    """

    __slots__ = ("_joint", "_parts", "told")

    def __init__(self, joint: Action, devices: Sequence[DeviceAgent]) -> None:
        self._joint = joint
        self._parts: list[_Part] = []
        self.told: Sequence[float] | None = None
        ends = np.cumsum([device.action_size for device in devices]).tolist()
        for device, (start, end) in zip(devices, pairwise([0, *ends]), strict=True):
            action = device.action
            action.part = slice(start, end)
            self._parts.append((action, start, device.part_decoder(), device.terminals))

    @staticmethod
    def is_open_to(devices: Iterable[DeviceAgent]) -> bool:
        """Whether the classes of all devices leave the way from action to set-point as it is."""
        kinds = {type(device) for device in devices}
        return all(getattr(k, hook) is getattr(DeviceAgent, hook) for k in kinds for hook in _HOOKS)

    def tell(self, action: Sequence[float]) -> None:
        """Tell each device its part of a joint action; see `Tell`."""
        self._joint.joint = self.told = action
        for of_device, start, decoder, terminals in self._parts:
            of_device.joint = action
            terminals.tell(decoder.setpoint(action, start))

    def parts(self, action: Sequence[float]) -> list[NDArray[np.float64]]:
        """Return each device's part of a joint action, in order."""
        return [np.array(action[a.part], dtype=np.float64) for a, *_ in self._parts]
