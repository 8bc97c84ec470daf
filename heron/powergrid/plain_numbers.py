"""Numbers in configuration files that are numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator


class PlainNumbers(BaseModel):
    """A model that takes no switch for a number: YAML reads ``yes`` and ``on`` as true."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields.get(info.field_name or "")
        if field is not None and any(isinstance(part, bool) for part in _parts(value)):
            kinds = set(_kinds(field.annotation))
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("a number, not true or false (YAML reads yes, no, on, off so)")
        return value


def _parts(value: Any) -> Iterator[Any]:
    """Yield what stands in a value, however deep."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _parts(part)
    else:
        yield value


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the types of which an annotation is made."""
    parts = get_args(annotation)
    for part in parts:
        yield from _kinds(part)
    if not parts:
        yield annotation
