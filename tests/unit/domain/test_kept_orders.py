import logging
from pathlib import Path

import pytest

from heron.errors import ConfigError
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.kept_orders import KeptOrders, lost_stops, orders_file
from heron.powergrid.modes import Authority, Mode, ModeMachine

RULE, COORD, OPER = Authority.RULE, Authority.COORDINATOR, Authority.OPERATOR


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge-1.orders.json"


def ordered(mode: Mode, by: Authority, start: Mode = Mode.CLOSED_LOOP) -> ModeMachine:
    machine = ModeMachine(start)
    machine.request(mode, by, "work on the line")
    return machine


def started_again(file: Path, start: Mode = Mode.CLOSED_LOOP) -> ModeMachine:
    machine = ModeMachine(start)
    KeptOrders(file).recall("ess1", machine)
    return machine


@pytest.mark.parametrize("mode", [Mode.STOPPED, Mode.MONITOR, Mode.ADVISORY, Mode.FALLBACK])
def test_what_an_operator_took_out_of_the_loop_stays_out(mode: Mode, file: Path) -> None:
    KeptOrders(file).note_mode("ess1", ordered(mode, OPER))
    machine = started_again(file)
    assert (machine.mode, machine.reason) == (mode, "work on the line")
    machine.recover()
    machine.request(Mode.CLOSED_LOOP, COORD, "again")
    assert machine.mode is mode
    other = ModeMachine()
    KeptOrders(file).recall("ess2", other)
    assert other.mode is Mode.CLOSED_LOOP


@pytest.mark.parametrize("start", [Mode.CLOSED_LOOP, Mode.MONITOR])
def test_a_stopped_device_is_written_to_again_only_if_it_had_been_driven(
    start: Mode, file: Path
) -> None:
    KeptOrders(file).note_mode("ess1", ordered(Mode.STOPPED, OPER, start))
    assert started_again(file).writes is (start is Mode.CLOSED_LOOP)


def test_an_order_ends_when_an_operator_puts_it_back(file: Path) -> None:
    orders = KeptOrders(file)
    machine = ordered(Mode.STOPPED, OPER)
    orders.note_mode("ess1", machine)
    machine.request(Mode.CLOSED_LOOP, OPER, "done")
    orders.note_mode("ess1", machine)
    assert started_again(file).mode is Mode.CLOSED_LOOP


def test_an_operators_leave_to_drive_is_not_kept(file: Path) -> None:
    """It begins again as its configuration says."""
    KeptOrders(file).note_mode("ess1", ordered(Mode.CLOSED_LOOP, OPER, Mode.MONITOR))
    assert started_again(file, Mode.MONITOR).mode is Mode.MONITOR


@pytest.mark.parametrize("by", [RULE, COORD])
def test_what_others_ordered_is_not_kept(by: Authority, file: Path) -> None:
    KeptOrders(file).note_mode("ess1", ordered(Mode.FALLBACK, by))
    assert not file.exists()


def test_a_link_that_only_reads_is_not_driven_by_an_old_order(file: Path) -> None:
    KeptOrders(file).note_mode("ess1", ordered(Mode.FALLBACK, OPER))
    machine = ModeMachine(Mode.MONITOR, read_only=True)
    KeptOrders(file).recall("ess1", machine)
    assert machine.mode is Mode.MONITOR
    assert not machine.writes


def test_limits_are_kept_and_lifted(file: Path) -> None:
    KeptOrders(file).note_limits("MG1", ConnectionLimits(0.2, None))
    KeptOrders(file).note_limits("MG2", ConnectionLimits(None, 0.4))
    KeptOrders(file).note_limits("MG1", ConnectionLimits())
    kept = KeptOrders(file).limits()
    assert kept == {"MG1": ConnectionLimits(), "MG2": ConnectionLimits(None, 0.4)}


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"modes": {"ess1": {"mode": "off", "reason": "", "writes": true}}}', '{"mode": {}}'],
)
def test_a_damaged_file_is_no_ground_for_a_guess(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"edge-1\.orders\.json.*damaged"):
        KeptOrders(file)


def test_a_folder_that_is_not_there_is_said_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a folder that exists"):
        KeptOrders(tmp_path / "nowhere" / "orders.json")


def test_an_order_that_cannot_be_kept_is_complained_of(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    orders = KeptOrders(file)
    file.with_name(f"{file.name}.part").mkdir()
    with caplog.at_level(logging.ERROR):
        orders.note_mode("ess1", ordered(Mode.STOPPED, OPER))
    assert "order_not_kept" in caplog.text


def test_a_service_manager_says_where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    assert orders_file("controller") is None
    assert orders_file("edge-1", tmp_path) == tmp_path / "edge-1.orders.json"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/heron")
    assert orders_file("edge-1", tmp_path) == Path("/var/lib/heron/edge-1.orders.json")


def test_a_stop_does_not_get_lost_when_the_device_is_renamed(file: Path) -> None:
    assert list(lost_stops(file, {"ess1"})) == []
    KeptOrders(file).note_mode("ess1", ordered(Mode.STOPPED, OPER))
    assert list(lost_stops(file, {"ess1", "pv1"})) == []
    (problem,) = lost_stops(file, {"battery", "pv1"})
    assert problem.value == "ess1"
    assert str(file) in problem.expected


def test_a_stop_does_not_get_lost_when_the_process_is_renamed(file: Path) -> None:
    KeptOrders(file).note_mode("ess1", ordered(Mode.STOPPED, OPER))
    now = file.with_name("edge-2.orders.json")
    (problem,) = lost_stops(now, {"ess1"})
    assert str(file) in problem.expected
    assert list(lost_stops(now, {"ess9"})) == []


def test_an_order_that_is_no_stop_goes_with_its_device(file: Path) -> None:
    KeptOrders(file).note_mode("ess1", ordered(Mode.MONITOR, OPER))
    assert list(lost_stops(file, {"pv1"})) == []
