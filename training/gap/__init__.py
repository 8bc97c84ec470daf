"""The timing gap: what a policy loses when time is real."""
