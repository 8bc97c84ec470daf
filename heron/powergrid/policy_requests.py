"""What others may ask of a policy in the field, and who may ask it.

Anyone may ask how it does beside its candidate; only an operator changes who decides.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from heron.errors import PolicyError
from heron.messaging.wire import PolicyReport, PolicyRequest
from heron.powergrid.modes import Authority, authority_of


@runtime_checkable
class ManagedPolicy(Protocol):
    """A policy with one before it and one in its shadow; a `PolicySlot` is one."""

    def promote(self) -> None:
        """Let the candidate decide. Raises: PolicyError."""
        ...

    def roll_back(self) -> None:
        """Let the policy before this one decide. Raises: PolicyError."""
        ...

    def report(self) -> PolicyReport:
        """Say who decides, and how far its candidate is from it."""
        ...


def obey(agent_id: str, policy: object, request: PolicyRequest) -> PolicyReport:
    """Do what was asked, or say in the report why not."""
    if not isinstance(policy, ManagedPolicy):
        why = "no policy that can be promoted or rolled back decides here"
        return PolicyReport(agent=agent_id, refused=why)
    refused = ""
    if request.action != "report":
        if authority_of(request.issuer) < Authority.OPERATOR:
            refused = f"{request.action} is for: operator"
        else:
            try:
                if request.action == "promote":
                    policy.promote()
                else:
                    policy.roll_back()
            except PolicyError as error:
                refused = str(error)
    return policy.report().model_copy(update={"refused": refused})
