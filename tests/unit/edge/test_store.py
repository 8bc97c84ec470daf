import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.check_cli import run as check
from edge.site import load_site
from edge.store import StoreAndForward, TelemetryStore, check_store
from heron.errors import ConfigError
from heron.messaging.bus import InMemoryBus, MemoryHub
from heron.messaging.topics import TELEMETRY
from heron.messaging.wire import Point, Status, Telemetry


def message(sequence: int) -> Telemetry:
    points = {"p_mw": Point(value=0.25)}
    return Telemetry(agent="ess1", sequence=sequence, time_s=float(sequence), points=points)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge.db"


@pytest.fixture
def store(path: Path) -> Iterator[TelemetryStore]:
    with TelemetryStore(path, 1_000_000) as store:
        yield store


def sequences(store: TelemetryStore) -> list[int]:
    return [m.sequence for _, m in store.oldest()]


def test_messages_come_out_in_order_and_marked_historical(store: TelemetryStore) -> None:
    store.put([message(1), message(2)])
    store.put([message(3)])
    kept = [m for _, m in store.oldest()]
    assert [m.sequence for m in kept] == [1, 2, 3]
    assert all(m.historical for m in kept)
    assert kept[1].points == message(2).points


@pytest.mark.parametrize("bad", [[1], [0, 2], [0, 1, 2]])
def test_what_is_no_message_in_the_file_is_lost_and_holds_nothing_up(
    path: Path, bad: list[int]
) -> None:
    with TelemetryStore(path, 1_000_000) as store:
        store.put([message(k) for k in range(3)])
    with sqlite3.connect(path) as damaged:
        for k in bad:
            wrong = message(k).model_dump_json().replace('"time_s"', '"time_x"').encode()
            damaged.execute("UPDATE telemetry SET payload=? WHERE id=?", (wrong, k + 1))
    damaged.close()
    with TelemetryStore(path, 1_000_000) as store:
        assert sequences(store) == [k for k in range(3) if k not in bad]
        assert store.lost == len(bad)
        assert len(store) == 3 - len(bad)


def test_a_relative_store_is_where_the_service_manager_lets_it_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "SITE.yml").write_text(
        "store: telemetry.db\n"
        'links: [{name: yard, address: "10.0.0.5:502"}]\n'
        "devices:\n"
        "  - {name: pv1, type: PV, link: yard, unit: 3, config: {p_rated_MW: 0.3}}\n"
    )
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert load_site(tmp_path / "SITE.yml").store == tmp_path / "telemetry.db"
    state = tmp_path / "var"
    monkeypatch.setenv("STATE_DIRECTORY", str(state))
    assert load_site(tmp_path / "SITE.yml").store == state / "telemetry.db"
    assert check([str(tmp_path / "SITE.yml")]) == 1  # there is no such folder
    assert "folder that exists" in capsys.readouterr().out
    state.mkdir()
    assert check([str(tmp_path / "SITE.yml")]) == 0
    assert list(state.iterdir()) == []


def test_a_store_where_the_service_may_not_write_is_told_before_it_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    check_store(tmp_path / "telemetry.db")
    # As root, who runs these tests in a container, one may write everywhere.
    monkeypatch.setattr("edge.store.os.access", lambda path, mode: path == tmp_path)
    with pytest.raises(ConfigError, match="may not write in /etc"):
        check_store(Path("/etc/telemetry.db"))


def test_what_was_put_in_survives_the_end_of_the_process(path: Path) -> None:
    with TelemetryStore(path, 1_000_000) as store:
        store.put([message(1), message(2)])
    with TelemetryStore(path, 1_000_000) as store:
        assert len(store) == 2
        assert sequences(store) == [1, 2]


def test_a_full_store_drops_the_oldest_and_counts_them(path: Path) -> None:
    size = len(message(10).model_dump_json())
    with TelemetryStore(path, 5 * size) as store:
        for k in range(10, 30):
            store.put([message(k)])
        assert sequences(store) == [25, 26, 27, 28, 29]
        assert (len(store), store.dropped) == (5, 15)
    with TelemetryStore(path, 5 * size) as store:
        assert store.dropped == 15


def test_deleting_frees_room(path: Path) -> None:
    size = len(message(10).model_dump_json())
    with TelemetryStore(path, 5 * size) as store:
        store.put([message(k) for k in range(10, 15)])
        store.delete_up_to(store.oldest()[3][0])
        store.put([message(k) for k in range(15, 19)])
        assert sequences(store) == [14, 15, 16, 17, 18]
        assert store.dropped == 0


def test_a_full_disk_loses_what_does_not_fit_and_says_so_once(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with TelemetryStore(path, 10_000_000) as store:
        assert store.put([message(1)])
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count={pages}")
        outcomes = [store.put([message(k)]) for k in range(2, 200)]
        kept = len(store)
        assert outcomes == [True] * (kept - 1) + [False] * (199 - kept)
        assert store.lost == 199 - kept > 0
        assert [m.sequence for _, m in store.oldest(1000)] == list(range(1, kept + 1))
        store._db.execute("PRAGMA max_page_count=100000")
        assert store.put([message(200)])
        assert len(store) == kept + 1
    said = [r.message.split()[0] for r in caplog.records]
    assert said == ["store_failed", "store_recovered"]


def test_a_file_that_is_no_store_is_one_clear_error(path: Path) -> None:
    path.write_text("this is no database, it is a text that is long enough to be read")
    with pytest.raises(ConfigError, match=r"edge\.db"):
        TelemetryStore(path, 1000)


def test_a_store_is_in_write_ahead_mode(path: Path, store: TelemetryStore) -> None:
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    db.close()


async def test_an_outage_loses_no_message(store: TelemetryStore) -> None:
    hub = MemoryHub()
    heard: list[Telemetry] = []

    async def listen(bus: InMemoryBus) -> None:
        async with bus.subscribe(TELEMETRY) as messages:
            async for _, got in messages:
                heard.append(got)

    async with InMemoryBus(hub) as bus, InMemoryBus(hub) as other:
        ear = asyncio.create_task(listen(other))
        await asyncio.sleep(0)
        forward = StoreAndForward(bus, store, asyncio.get_running_loop().time, doubt_s=2.5)
        runner = asyncio.create_task(forward.run())
        for k in range(30):
            if k == 10:
                bus.lose()
            if k == 20:
                await bus.restore()
            await forward.send(message(k))
            await asyncio.sleep(1.0)
        await asyncio.sleep(1.0)
        for task in (runner, ear):
            task.cancel()
        await asyncio.gather(runner, ear, return_exceptions=True)
    assert {m.sequence for m in heard} == set(range(30))
    historical = [m.sequence for m in heard if m.historical]
    # The last 2.5 s before the outage are in doubt, so they are sent again.
    assert historical == list(range(7, 20))
    assert len(store) == 0


async def test_a_loss_between_two_messages_is_noticed(store: TelemetryStore) -> None:
    async with InMemoryBus() as bus:
        forward = StoreAndForward(bus, store, asyncio.get_running_loop().time)
        await forward.send(message(1))
        bus.lose()
        await bus.restore()
        await forward.send(message(2))
    assert sequences(store) == [1]


async def test_nothing_is_forwarded_before_its_listener_is_back(store: TelemetryStore) -> None:
    hub = MemoryHub()
    heard: list[int] = []
    here = Status(agent="historian", online=True, role="system")

    async def listen(bus: InMemoryBus) -> None:
        async with bus.subscribe(TELEMETRY) as messages:
            async for _, got in messages:
                heard.append(got.sequence)

    async with InMemoryBus(hub) as bus, InMemoryBus(hub, status=here) as historian:
        ear = asyncio.create_task(listen(historian))
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time
        forward = StoreAndForward(bus, store, now, doubt_s=2.5, listener="historian")
        runner = asyncio.create_task(forward.run())
        await asyncio.sleep(1.0)
        for k in range(30):
            if k == 10:
                historian.lose()
            if k == 20:
                await historian.restore()
            await forward.send(message(k))
            await asyncio.sleep(1.0)
        for task in (runner, ear):
            task.cancel()
        await asyncio.gather(runner, ear, return_exceptions=True)
    assert set(heard) == set(range(30))
    assert len(store) == 0
