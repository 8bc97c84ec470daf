"""What unit tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from heron.powergrid.agents import DEVICE_REGISTRY
from heron.powergrid.setups import models


@pytest.fixture
def device_types_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget the device types that a test registers."""
    monkeypatch.setattr(models, "_extra_types", dict(models._extra_types))
    before = dict(DEVICE_REGISTRY)
    yield
    for name in set(DEVICE_REGISTRY) - set(before):
        del DEVICE_REGISTRY[name]
    dict.update(DEVICE_REGISTRY, before)
