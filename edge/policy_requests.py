"""What others may ask of a policy that decides at its device, and who may ask it.

Anyone may ask how it does beside its candidate; only an operator changes who decides.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from edge.decisions import LocalPolicy
from edge.modes import Authority, authority_of
from heron.errors import PolicyError
from heron.messaging.wire import PolicyReport, PolicyRequest


@runtime_checkable
class ManagedPolicy(Protocol):
    """A local policy with one before it and one in its shadow; `edge.policies.PolicySlot` is."""

    def promote(self) -> None:
        """Let the candidate decide. Raises: PolicyError."""
        ...

    def roll_back(self) -> None:
        """Let the policy before this one decide. Raises: PolicyError."""
        ...

    def report(self) -> PolicyReport:
        """Say who decides, and how far its candidate is from it."""
        ...


def obey(device_id: str, policy: LocalPolicy | None, request: PolicyRequest) -> PolicyReport:
    """Do what was asked, or say in the report why not."""
    if not isinstance(policy, ManagedPolicy):
        return PolicyReport(agent=device_id, refused="no policy decides at this device")
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
