"""Who may see what: the one function that every path asks.

Direct reads, the proxy, and reports sent as messages all end in `can_observe`. Whatever it
does not allow is not built into an observation, not stored for the requester and not sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

PROXY_LEVEL: Final = 0
FIELD_LEVEL: Final = 1
COORDINATOR_LEVEL: Final = 2
SYSTEM_LEVEL: Final = 3

OWNER: Final = "owner"
UPPER_LEVEL: Final = "upper_level"
SYSTEM: Final = "system"
PUBLIC: Final = "public"
VISIBILITIES: Final = (OWNER, UPPER_LEVEL, SYSTEM, PUBLIC)

_KNOWN_LEVELS: Final = frozenset({FIELD_LEVEL, COORDINATOR_LEVEL, SYSTEM_LEVEL})


def can_observe(  # noqa: PLR0917 - the guide's order of requester and owner
    visibility: Iterable[str],
    requestor_id: str | None,
    requestor_level: int | None,
    owner_id: str,
    owner_level: int,
    upstream_id: str | None = None,
) -> bool:
    """Tell whether a requester may see a feature.

    Args:
        visibility: What the feature declares, from `VISIBILITIES`.
        requestor_id: Who asks. Ids are compared whole: "MG1" never matches "MG10".
        requestor_level: 1 field, 2 coordinator, 3 system. Any other level (the proxy's own
            included) is unknown, and an unknown requester sees nothing, not even what is
            public.
        owner_id: Whose feature it is.
        owner_level: The owner's level.
        upstream_id: Whom the owner reports to. If it is known, ``upper_level`` means that
            agent and no other of its level; if not, any agent one level above the owner.
    """
    if not requestor_id or requestor_level not in _KNOWN_LEVELS:
        return False
    for rule in visibility:
        if rule == PUBLIC:
            return True
        if rule == OWNER and requestor_id == owner_id:
            return True
        if rule == SYSTEM and requestor_level == SYSTEM_LEVEL:
            return True
        if rule == UPPER_LEVEL:
            if upstream_id:
                if requestor_id == upstream_id:
                    return True
            elif requestor_level == owner_level + 1:
                return True
    return False
