"""A policy in the field: loaded, checked, swapped, shadowed, promoted, rolled back.

A file is replaced atomically by whoever deploys (write beside it, rename). The slot looks at it
between decisions: a new file that passes every check takes over without a missed one; one that
does not is refused, and the old policy stays.

A promotion outlives the process: a small file beside the candidate says which candidate was put
before which policy. At the next start it counts only if both files are still those.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from heron.errors import PolicyError
from heron.files import stamp_of
from heron.messaging.wire import PolicyReport
from heron.policy import OnnxPolicy, PolicyCodec

logger = logging.getLogger(__name__)

PROMOTED = ".promoted"
"""What follows a candidate's name in the name of the file that keeps its promotion."""


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


class PolicySlot:
    """The policy of one agent.

    Args:
        codec: Of the agent.
        path: File of the active policy.
        candidate: File of a policy that decides in the shadow, or None.
        key: Public key (64 hex characters) that must have signed the files, also one that
            replaces them later; None asks for none.
        setup: Name of the setup that the files must be for; None takes any.

    Attributes:
        shadow: How far the candidate is from the active policy.
        swaps: Times that another policy took over.
        rollbacks: Times that the former policy came back.

    Raises:
        PolicyError: A file is damaged, not signed by the key, or made for another codec.
    """

    def __init__(
        self,
        codec: PolicyCodec,
        path: Path,
        candidate: Path | None = None,
        key: str | None = None,
        *,
        setup: str | None = None,
    ) -> None:
        self._path = path
        self._candidate_path = candidate
        self._key = key
        self._codec = codec
        self._setup = setup
        self._stamp = stamp_of(path)
        self._active = self._load(path)
        self._former: OnnxPolicy | None = None
        self._candidate = None if candidate is None else self._load(candidate)
        self.shadow = ShadowReport()
        self.swaps = 0
        self.rollbacks = 0
        if self._candidate is not None and self._was_promoted():
            self._former, self._active, self._candidate = self._active, self._candidate, None
            self._say("policy_still_promoted")

    def _load(self, path: Path) -> OnnxPolicy:
        return OnnxPolicy.load(path, self._codec, self._key, self._setup)

    @property
    def active(self) -> OnnxPolicy:
        """The policy that decides."""
        return self._active

    # --- deciding ---

    def act(self, obs: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Decide; the candidate decides beside it, and is only compared.

        Raises:
            PolicyError: Neither the active policy nor the one before it can decide.
        """
        self.look()
        try:
            action = self._active.act(obs)
        except PolicyError:
            if self._former is None:
                raise
            self.roll_back()
            action = self._active.act(obs)
        if self._candidate is not None:
            try:
                other = self._candidate.act(obs)
            except PolicyError:
                self.shadow.failures += 1
            else:
                self.shadow.add(float(np.max(np.abs(other - action), initial=0.0)))
        return action

    def look(self) -> None:
        """Take over the file if it was replaced and passes every check."""
        stamp = stamp_of(self._path)
        if stamp in (self._stamp, None):
            return
        self._stamp = stamp
        try:
            fresh = self._load(self._path)
        except PolicyError as error:
            logger.error("policy_refused agent=%s reason=%s", self._codec.agent_id, error)
            return
        self._former, self._active = self._active, fresh
        self.swaps += 1
        self._forget_promotion()
        self._say("policy_swapped")

    # --- what operators ask for ---

    def promote(self) -> None:
        """Let the candidate decide from now on, also after a restart.

        Raises:
            PolicyError: There is no candidate, or the promotion cannot be kept.
        """
        if self._candidate is None:
            raise PolicyError(f"{self._codec.agent_id}: there is no candidate to promote")
        self._keep_promotion()
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
            raise PolicyError(f"{self._codec.agent_id}: there is no policy to roll back to")
        self._active, self._former = self._former, None
        self.rollbacks += 1
        self._forget_promotion()
        self._say("policy_rolled_back")

    def report(self) -> PolicyReport:
        """Say who decides, and how far the candidate is from it."""
        shadow = self.shadow
        return PolicyReport(
            agent=self._codec.agent_id,
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

    # --- what outlives the process ---

    @property
    def _record(self) -> Path | None:
        path = self._candidate_path
        return None if path is None else path.with_name(path.name + PROMOTED)

    def _hashes(self) -> dict[str, str]:
        """Return what says which candidate is put before which policy."""
        assert self._candidate_path is not None
        return {"candidate": _hash_of(self._candidate_path), "before": _hash_of(self._path)}

    def _keep_promotion(self) -> None:
        record = self._record
        assert record is not None
        part = record.with_name(record.name + ".part")
        try:
            part.write_text(json.dumps(self._hashes()), encoding="utf-8")
            part.replace(record)
        except OSError as error:
            reason = f"the promotion cannot be kept: {error}"
            raise PolicyError(f"{self._codec.agent_id}: {reason}") from error

    def _forget_promotion(self) -> None:
        if self._record is None:
            return
        try:
            self._record.unlink(missing_ok=True)
        except OSError as error:
            logger.error("promotion_not_removed file=%s reason=%s", self._record, error)

    def _was_promoted(self) -> bool:
        record = self._record
        if record is None or not record.exists():
            return False
        try:
            kept = json.loads(record.read_text(encoding="utf-8"))
            same = bool(kept == self._hashes())
        except (OSError, ValueError) as error:
            logger.error("promotion_unreadable file=%s reason=%s", record, error)
            return False
        if not same:
            logger.error("promotion_of_other_files file=%s", record)
        return same

    def _say(self, what: str) -> None:
        manifest = self._active.manifest
        logger.warning(
            "%s agent=%s policy=%s version=%s",
            what,
            self._codec.agent_id,
            manifest.name,
            manifest.version,
        )


def _name(policy: OnnxPolicy | None) -> str | None:
    return None if policy is None else f"{policy.manifest.name} {policy.manifest.version}"


def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
