"""Files that others replace while we run."""

from heron.files import Stamp, stamp_of

__all__ = ["Stamp", "stamp_of"]
