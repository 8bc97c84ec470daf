"""The power domain: devices, networks, set-points and measurements."""
