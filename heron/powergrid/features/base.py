"""The common base of the power domain's features: fields declared once, everything follows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from heron.core import FeatureProvider


@dataclass(frozen=True, slots=True)
class FeatureField:
    """One number of a feature's vector.

    Attributes:
        name: Name of the attribute that holds it.
        unit: Its unit; empty for a pure number.
        scale: Typical size; an observation holds the value divided by it.
    """

    name: str
    unit: str = ""
    scale: float = 1.0


class DomainFeature(FeatureProvider):
    """A feature whose vector is a list of its float attributes.

    A subclass declares ``fields`` (the vector, in order) and ``settings`` (what else belongs in
    `to_dict`), and takes all of them as keyword arguments.
    """

    fields: ClassVar[tuple[FeatureField, ...]] = ()
    settings: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def vector(self) -> npt.NDArray[np.float32]:
        """Return the fields in order, (n_fields,)."""
        return np.array([getattr(self, f.name) for f in self.fields], dtype=np.float32)

    def names(self) -> list[str]:
        """Return the names of the vector's numbers."""
        return [f.name for f in self.fields]

    def units(self) -> list[str]:
        """Return the unit of each number."""
        return [f.unit for f in self.fields]

    def scales(self) -> list[float]:
        """Return the typical size of each number."""
        return [f.scale for f in self.fields]

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for messages and logs."""
        names = dict.fromkeys([*(f.name for f in self.fields), *self.settings])
        return {name: _plain(getattr(self, name)) for name in names}


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
