"""What others may ask of a policy at its device; see `heron.powergrid.policy_requests`."""

from heron.powergrid.policy_requests import ManagedPolicy, obey

__all__ = ["ManagedPolicy", "obey"]
