"""The policies that lie with a setup, one ``AGENT.onnx`` a microgrid."""

from __future__ import annotations

from pathlib import Path

from heron.powergrid.agents import Scheme, scheme_of
from heron.powergrid.setups import Setup, stated_protocol

POLICIES_FOLDER = "policies"
"""Folder beside ``config.yml`` that holds them."""


def shipped_policies(setup: Setup, scheme: Scheme | None = None) -> Path | None:
    """Return the folder of the policies that lie with a setup; None where it has none.

    They were trained under the protocol that ``config.yml`` says, and lead under no other.

    Args:
        setup: Read from a file; one made in code has none.
        scheme: How the site coordinates; None: as the setup says.

    Raises:
        ConfigError: The setup's file, or its protocol, is not there any more.
    """
    if setup.path is None or not any((setup.path.parent / POLICIES_FOLDER).glob("*.onnx")):
        return None
    now = scheme or scheme_of(setup.config.protocol)
    trained = scheme_of(stated_protocol(setup.path))
    return setup.path.parent / POLICIES_FOLDER if trained.name == now.name else None
