"""The names by which a setup says how its site coordinates.

`heron.powergrid.agents.scheme_of` builds what they name. The names stand here, so that a setup is
checked when it is read, before there are agents.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

SETPOINT = "setpoint"
"""Coordinators tell their devices set-points: what a site does unless it says otherwise."""
PROTOCOLS = (SETPOINT, "price", "p2p", "consensus", "system")
"""Those that ship."""
ALIASES: Mapping[str, str] = {"price_signal": "price"}
"""Other names that are accepted: the guide's."""


def is_own(text: str) -> bool:
    """Return whether a name is of the user's: ``module:NAME`` or ``FILE.py:NAME``."""
    module, colon, name = text.rpartition(":")
    return bool(colon and module and name)


def require_named(text: str) -> str:
    """Return a protocol's name as it is, if it is one; a user's own is not looked for.

    Raises:
        ValueError: It is none; the message says what is expected.
    """
    if text in PROTOCOLS or text in ALIASES or is_own(text):
        return text
    raise ValueError(f"one of {', '.join(PROTOCOLS)}, or module:NAME or FILE.py:NAME")


def beside(folder: Path, text: str) -> str:
    """Return a protocol's name with the file of ``FILE.py:NAME`` found from a folder."""
    file, _, name = text.rpartition(":")
    if not is_own(text) or not file.endswith(".py"):
        return text
    return f"{(folder / file).resolve()}:{name}"
