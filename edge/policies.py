"""Policies that decide at the device: loaded, checked, swapped, shadowed, rolled back.

A file is replaced atomically by whoever deploys (write beside it, rename). The slot looks at it
between cycles: a new file that passes every check takes over without a missed cycle; one that
does not is refused, and the old policy stays.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.files import stamp_of
from heron.errors import PolicyError
from heron.messaging.wire import PolicyReport
from heron.policy import OnnxPolicy, PolicyCodec, codec_of
from heron.powergrid.agents import DeviceAgent
from heron.powergrid.quantities import DeviceReading, Setpoint

logger = logging.getLogger(__name__)


def device_codec(agent: DeviceAgent) -> PolicyCodec:
    """Return the codec of a policy that decides for one device from its own features."""
    fields = codec_of(agent, view="owner").fields
    return PolicyCodec(agent.agent_id, fields, tuple(agent.setpoint_specs()))


@dataclass(slots=True)
class ShadowReport:
    """How far a candidate's decisions are from the active policy's, per action in [-1, 1].

    Attributes:
        decisions: Decisions that both took.
        failures: Times that the candidate could not decide.
        mean_difference: Mean over decisions of the largest difference of one action.
        largest_difference: Largest of them.
    """

    decisions: int = 0
    failures: int = 0
    mean_difference: float = 0.0
    largest_difference: float = 0.0

    def add(self, difference: float) -> None:
        """Take in one more decision."""
        self.decisions += 1
        self.mean_difference += (difference - self.mean_difference) / self.decisions
        self.largest_difference = max(self.largest_difference, difference)


def _name(policy: OnnxPolicy | None) -> str | None:
    return None if policy is None else f"{policy.manifest.name} {policy.manifest.version}"


class PolicySlot:
    """The policy of one device agent; call it to decide.

    Args:
        agent: Its features are observed, its action is decoded.
        path: File of the active policy.
        candidate: File of a policy that decides in the shadow, or None.
        key: Public key (64 hex characters) that must have signed the files, also one that
            replaces them later; None asks for none.

    Attributes:
        shadow: How far the candidate is from the active policy.
        swaps: Times that a new file took over.
        rollbacks: Times that the former policy came back.

    Raises:
        PolicyError: A file is damaged, not signed by the key, or made for another codec.
    """

    def __init__(
        self,
        agent: DeviceAgent,
        path: Path,
        candidate: Path | None = None,
        key: str | None = None,
    ) -> None:
        self._agent = agent
        self._path = path
        self._candidate_path = candidate
        self._key = key
        self._codec = device_codec(agent)
        self._stamp = stamp_of(path)
        self._active = OnnxPolicy.load(path, self._codec, key)
        self._former: OnnxPolicy | None = None
        self._candidate = (
            None if candidate is None else OnnxPolicy.load(candidate, self._codec, key)
        )
        self.shadow = ShadowReport()
        self.swaps = 0
        self.rollbacks = 0

    @property
    def active(self) -> OnnxPolicy:
        """The policy that decides."""
        return self._active

    def look(self) -> None:
        """Take over the file if it was replaced and passes every check."""
        stamp = stamp_of(self._path)
        if stamp in (self._stamp, None):
            return
        self._stamp = stamp
        try:
            fresh = OnnxPolicy.load(self._path, self._codec, self._key)
        except PolicyError as error:
            logger.error("policy_refused device=%s reason=%s", self._agent.agent_id, error)
            return
        self._former, self._active = self._active, fresh
        self.swaps += 1
        self._say("policy_swapped")

    def promote(self) -> None:
        """Let the candidate decide from now on.

        Raises:
            PolicyError: There is no candidate.
        """
        if self._candidate is None:
            raise PolicyError(f"{self._agent.agent_id}: there is no candidate to promote")
        self._former, self._active = self._active, self._candidate
        self._candidate = None
        self.swaps += 1
        self._say("policy_promoted")

    def roll_back(self) -> None:
        """Let the policy decide that did before the last swap.

        Raises:
            PolicyError: There is none.
        """
        if self._former is None:
            raise PolicyError(f"{self._agent.agent_id}: there is no policy to roll back to")
        self._active, self._former = self._former, None
        self.rollbacks += 1
        self._say("policy_rolled_back")

    def report(self) -> PolicyReport:
        """Say who decides, and how far the candidate is from it."""
        shadow = self.shadow
        return PolicyReport(
            agent=self._agent.agent_id,
            active=_name(self._active),
            candidate=_name(self._candidate),
            former=_name(self._former),
            decisions=shadow.decisions,
            failures=shadow.failures,
            mean_difference=shadow.mean_difference,
            largest_difference=shadow.largest_difference,
            swaps=self.swaps,
            rollbacks=self.rollbacks,
        )

    def _say(self, what: str) -> None:
        manifest = self._active.manifest
        logger.warning(
            "%s device=%s policy=%s version=%s",
            what,
            self._agent.agent_id,
            manifest.name,
            manifest.version,
        )

    def __call__(self, reading: DeviceReading) -> Setpoint:
        """Decide on what the agent's features show; ``reading`` has filled them already.

        Raises:
            PolicyError: Neither the active policy nor the one before it can decide.
        """
        del reading
        self.look()
        observation = self._codec.encode(self._agent)
        try:
            action = self._active.act(observation)
        except PolicyError:
            if self._former is None:
                raise
            self.roll_back()
            action = self._active.act(observation)
        if self._candidate is not None:
            try:
                other = self._candidate.act(observation)
            except PolicyError:
                self.shadow.failures += 1
            else:
                self.shadow.add(float(np.max(np.abs(other - action))))
        return self._agent.propose(action)
