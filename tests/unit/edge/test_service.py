import asyncio
import json
import logging
import socket
from configparser import ConfigParser
from pathlib import Path

import pytest

from edge.check_cli import run as check
from edge.cli import _parser
from edge.service import JsonLines, keep_watchdog, notify

ROOT = Path(__file__).parents[3]


def test_json_lines_carry_the_keys_of_the_message() -> None:
    record = logging.LogRecord(
        "edge.cycle",
        logging.WARNING,
        "",
        0,
        "mode device=%s after=%s reason=%s",
        ("ess1", "fallback", "no answer"),
        None,
    )
    line = json.loads(JsonLines().format(record))
    assert (line["device"], line["after"], line["level"]) == ("ess1", "fallback", "warning")
    assert line["message"] == "mode device=ess1 after=fallback reason=no answer"
    assert line["reason"] == "no answer"


def test_an_exception_stays_on_its_line() -> None:
    try:
        raise ValueError("bad")
    except ValueError as error:
        info = (ValueError, error, error.__traceback__)
    record = logging.LogRecord("edge", logging.ERROR, "", 0, "broken", (), info)
    text = JsonLines().format(record)
    assert "\n" not in text
    assert "ValueError: bad" in json.loads(text)["exception"]


def test_without_a_service_manager_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert notify("READY=1") is False


async def test_the_watchdog_is_fed_twice_an_interval(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "10000000")
        task = asyncio.create_task(keep_watchdog())
        await asyncio.sleep(12.0)
        task.cancel()
        heard = [manager.recv(64) for _ in range(4)]
        with pytest.raises(BlockingIOError):
            manager.recv(64)
    assert heard == [b"READY=1", *[b"WATCHDOG=1"] * 3]


def test_the_unit_file_calls_the_program_as_it_is() -> None:
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy/systemd/heron-edge.service")
    service = unit["Service"]
    program, command, *options = service["ExecStart"].split()
    assert (program, command) == ("/opt/heron/bin/heron", "edge")
    args = _parser().parse_args(options)
    assert (str(args.site_file), args.log_json) == ("/etc/heron/SITE.yml", True)
    assert service["Type"] == "notify"


@pytest.mark.parametrize("name", ["heron-edge", "heron-controller"])
def test_the_unit_file_never_gives_up_on_a_broker_that_comes_late(name: str) -> None:
    unit = ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / f"deploy/systemd/{name}.service")
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert unit["Service"]["Restart"] == "always"
    assert "StartLimitBurst" not in unit["Unit"]


def test_check_finds_every_mistake_and_says_ok_without_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "SITE.yml"
    good = (
        'links: [{name: yard, address: "10.0.0.5:502"}]\n'
        "devices:\n"
        "  - {name: pv1, type: PV, link: yard, unit: 3, config: {p_rated_MW: 0.3}}\n"
    )
    path.write_text(good)
    assert check([str(path)]) == 0
    assert "1 links, 1 devices, 0 meters" in capsys.readouterr().out
    path.write_text(good.replace("unit: 3", "unit: 300").replace("PV,", "Solar,"))
    assert check([str(path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["ok"] is False
    assert len(told["problems"]) == 2


def test_check_refuses_a_policy_that_does_not_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pv1.onnx").write_bytes(b"not a policy")
    path = tmp_path / "SITE.yml"
    path.write_text(
        'links: [{name: yard, address: "10.0.0.5:502"}]\n'
        "devices:\n"
        "  - {name: pv1, type: PV, link: yard, unit: 3, policy: pv1.onnx,"
        " config: {p_rated_MW: 0.3}}\n"
    )
    assert check([str(path)]) == 1
    assert "pv1.onnx" in capsys.readouterr().out
