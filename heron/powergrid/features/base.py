"""The common base of the power domain's features: fields declared once, everything follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, ClassVar, Self

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

    _read: ClassVar[attrgetter[Any]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Prepare the reading of the fields, which is on the hot path."""
        super().__init_subclass__(**kwargs)
        if cls.fields:
            cls._read = attrgetter(*(f.name for f in cls.fields))

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def vector(self) -> npt.NDArray[np.float32]:
        """Return the fields in order, (n_fields,)."""
        return np.array(self.values(), dtype=np.float32)

    def values(self) -> Sequence[float]:
        """Return the fields in order as plain numbers: `vector` without the array."""
        read = self._read(self)
        return read if len(self.fields) > 1 else (read,)

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


class Row:
    """Where a `RowFeature` keeps its numbers: of one class for features of every kind.

    What is filled or read at every step holds on to this, because an interpreter finds what all
    have alike several times as fast as what differs from class to class.

    Attributes:
        numbers: In order.
    """

    __slots__ = ("numbers",)

    def __init__(self) -> None:
        self.numbers: tuple[float, ...] = ()


class RowFeature(DomainFeature):
    """A feature that is filled as a whole: its vector is one tuple, ``row``.

    What comes as a row needs no taking apart at every step. Each field can be read and set by its
    name all the same.

    Attributes:
        cell: Where the row is kept, for as long as there is the feature.
    """

    cell: Row
    not_fields = DomainFeature.not_fields | {"cell"}

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Give it a place for its row."""
        feature = super().__new__(cls, *args, **kwargs)
        feature.cell = Row()
        return feature

    def __copy__(self) -> Self:
        """Return another with a row of its own."""
        copied = type(self).__new__(type(self))
        vars(copied).update({**vars(self), "cell": copied.cell})
        copied.row = self.row
        return copied

    def _become(self, fresh: Self) -> None:
        super()._become(fresh)
        self.row = fresh.row

    @property
    def row(self) -> tuple[float, ...]:
        """The numbers in order."""
        return self.cell.numbers

    @row.setter
    def row(self, numbers: tuple[float, ...]) -> None:
        self.cell.numbers = numbers

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Give each field its place in the row, unless the class says itself what the field is."""
        super().__init_subclass__(**kwargs)
        for i, own in enumerate(cls.fields):
            if own.name not in vars(cls):
                setattr(cls, own.name, _place(i))

    @property
    def is_its_row(self) -> bool:
        """Whether the row is the vector, and may be read in its place."""
        return type(self).values is RowFeature.values

    def values(self) -> Sequence[float]:
        """Return the fields in order as plain numbers."""
        return self.cell.numbers


def _place(i: int) -> property:
    def read(self: RowFeature) -> float:
        return self.cell.numbers[i]

    def write(self: RowFeature, value: float) -> None:
        row = self.cell.numbers
        self.cell.numbers = (*row[:i], value, *row[i + 1 :])

    return property(read, write)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
