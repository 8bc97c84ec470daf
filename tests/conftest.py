"""What all tests share: a test that leaves a task behind fails; third parties are real or left out.

Tests against programs of others (a broker, Modbus masters) are left out, and said to be, where
the program is not installed. In CI everything is installed, and nothing is left out.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio


@pytest_asyncio.fixture
async def no_task_left_behind() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    # one turn of the loop lets tasks that were cancelled by the test's last line finish
    await asyncio.sleep(0)
    left = {task for task in asyncio.all_tasks() - before if task is not asyncio.current_task()}
    names = sorted(f"{task.get_name()}: {task.get_coro()}" for task in left)
    for task in left:
        task.cancel()
    assert not names, f"tasks left behind: {names}"


NEEDS = {
    "broker": "mosquitto",
    "node": "node",
    "mbpoll": "mbpoll",
    "browser": "chromium",
    "cc": "cc",
}
"""Marker to the program that its tests need."""


def missing() -> dict[str, str]:
    if os.environ.get("CI"):
        return {}
    return {m: program for m, program in NEEDS.items() if shutil.which(program) is None}


def pytest_report_header() -> list[str]:
    return [f"left out: tests marked {m}, {p} is not installed" for m, p in missing().items()]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    absent = missing()
    left_out = [item for item in items if any(item.get_closest_marker(m) for m in absent)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    for item in items:
        if isinstance(item, pytest.Function) and asyncio.iscoroutinefunction(item.function):
            # first, so that it is torn down last, after the test's own fixtures
            item.fixturenames.insert(0, "no_task_left_behind")
