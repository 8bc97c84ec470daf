from __future__ import annotations

import json
from pathlib import Path

import pytest

from controller.historian import Historian
from heron.errors import ConfigError
from heron.messaging.wire import Alarm, PlantClock, Point, Telemetry


class Wall:
    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def telemetry(soc: float, time_s: float = 900.0) -> Telemetry:
    points = {"soc": Point(value=soc), "p_mw": Point(value=None, quality="bad")}
    return Telemetry(agent="ess1", sequence=1, time_s=time_s, points=points)


async def test_samples_and_events_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "history.db"
    async with Historian(path, wall=Wall()) as historian:
        historian.write("telemetry", "ess1", telemetry(0.5), 0.0)
        alarm = Alarm(agent="MG1", severity="warning", text="no decision")
        historian.write("alarm", "MG1", alarm, 0.0)
    async with Historian(path, wall=Wall()) as historian:
        historian.write("telemetry", "ess1", telemetry(0.6, 1800.0), 0.0)
        await historian.flush()
        assert await historian.samples("ess1", "soc") == [
            (1_000_000.0, 900.0, 0.5, 1),
            (1_000_000.0, 1800.0, 0.6, 1),
        ]
        assert await historian.samples("ess1", "p_mw", limit=1) == [(1_000_000.0, 1800.0, None, 0)]
        ((_, agent, message),) = await historian.events("alarm")
    assert (agent, json.loads(message)["text"]) == ("MG1", "no decision")


async def test_what_is_too_old_is_removed(tmp_path: Path) -> None:
    wall = Wall()
    async with Historian(tmp_path / "h.db", keep_days=1.0, wall=wall) as historian:
        historian.write("telemetry", "ess1", telemetry(0.1), 0.0)
        wall.now_s += 2 * 86_400.0
        historian.write("telemetry", "ess1", telemetry(0.2), 0.0)
        await historian.flush(prune=True)
        assert [row[2] for row in await historian.samples("ess1", "soc")] == [0.2]


async def test_the_clock_is_not_kept(tmp_path: Path) -> None:
    clock = PlantClock(epoch=1, step=0, time_s=0.0, step_s=900.0, pace="max")
    async with Historian(tmp_path / "h.db") as historian:
        historian.write("clock", "", clock, 0.0)
        await historian.flush()
        assert await historian.events("clock") == []


@pytest.mark.parametrize("content", [None, b"this is a text and no database" * 100])
async def test_a_file_that_cannot_be_used_is_one_line(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "no" / "h.db" if content is None else tmp_path / "h.db"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match="--history = "):
        async with Historian(path):
            pass
