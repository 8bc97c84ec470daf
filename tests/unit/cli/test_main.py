from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from heron import __version__
from heron.cli import main as program
from heron.errors import BrokerUnavailable, ConfigError
from heron.files import require_writable_file, require_writable_folder


def failing(argv: list[str]) -> int:
    raise BrokerUnavailable("mqtt://127.0.0.1:1", "connection refused")


def failing_in_a_group(argv: list[str]) -> int:
    raise ExceptionGroup("tasks", [BrokerUnavailable("mqtt://127.0.0.1:1", "connection refused")])


def buggy(argv: list[str]) -> int:
    raise ZeroDivisionError


def counting(argv: list[str]) -> int:
    return len(argv)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("failing", "failing_in_a_group", "buggy", "counting")
    points = {name: EntryPoint(name, f"{__name__}:{name}", program.GROUP) for name in names}
    points["unmade"] = EntryPoint("unmade", "heron.no_such_module:run", program.GROUP)
    monkeypatch.setattr(program, "commands", lambda: points)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])


def run_in_child(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_help_imports_no_command() -> None:
    code = (
        "import sys\nfrom heron.cli.main import main\nassert main(['--help']) == 0\n"
        "heavy = {'numpy', 'pydantic', 'rich', 'aiomqtt', 'simulator', 'edge', 'controller'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    assert run_in_child(code).splitlines()[-1] == "loaded: []"


def test_help_lists_every_command_that_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in program.commands())


def test_every_command_has_a_summary() -> None:
    assert program.commands().keys() <= program.SUMMARIES.keys()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["--version"]) == 0
    assert capsys.readouterr().out == f"heron {__version__}\n"


def test_no_command_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([]) == program.EXIT_USAGE
    assert capsys.readouterr().out.startswith("usage: heron")


def test_an_unknown_command_is_named_with_the_known_ones(
    command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["fly"]) == program.EXIT_USAGE
    assert "unknown command 'fly': expected one of buggy, counting" in capsys.readouterr().err


def test_the_command_gets_the_rest_and_gives_the_exit_code(command: None) -> None:
    assert program.main(["counting", "a", "b", "c"]) == 3


@pytest.mark.parametrize("name", ["failing", "failing_in_a_group"])
def test_an_error_of_ours_is_one_line(
    command: None, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([name]) == program.EXIT_ERROR
    expected = f"heron: {name}: broker mqtt://127.0.0.1:1: connection refused\n"
    assert capsys.readouterr().err == expected


def test_a_bug_keeps_its_traceback(command: None) -> None:
    with pytest.raises(ZeroDivisionError):
        program.main(["buggy"])


def test_a_command_that_is_not_installed_says_so(
    command: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["unmade"]) == program.EXIT_ERROR
    assert "heron: unmade: not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["up", "--runs", "{tmp}/runs"], "--report"),
        (["up", "--runs", "{tmp}/runs"], "--record"),
        (["edge", "--setup", "single_microgrid"], "--report"),
        (["evaluate"], "--report"),
        (["evaluate"], "--out"),
        (["gap"], "--out"),
        (["gap", "--disturbed"], "--out"),
        (["gap", "--from-recording", "nowhere.jsonl"], "--out"),
    ],
)
def test_a_result_that_cannot_be_written_is_refused_before_the_work(
    command: list[str], option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    words = [word.format(tmp=tmp_path) for word in command]
    assert program.main([*words, option, str(tmp_path / "file" / "a" / "b")]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"heron: {words[0]}: {option} = '{tmp_path}/file/a/b': a f")
    assert said.endswith(f"that can be written: {tmp_path}/file is no folder")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_place_that_can_be_made_is_taken_and_left_as_it_is(tmp_path: Path) -> None:
    require_writable_file("--out", tmp_path / "a" / "b.json")
    require_writable_folder("--out", tmp_path / "a" / "b")
    require_writable_file("--out", None)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match="a folder stands there"):
        require_writable_file("--out", tmp_path)


SETUP = ["--setup", "ieee34_ieee13"]


@pytest.mark.parametrize(
    ("argv", "option", "told"),
    [
        (["controller", *SETUP, "--http", "-1"], "--http", "-1: expected 0 to 65535"),
        (["controller", *SETUP, "--http", "70000"], "--http", "70000: expected 0 to 65535"),
        (["controller", *SETUP, "--http", "x"], "--http", "'x': expected a whole number, 0 to"),
        (["controller", *SETUP, "--answer-wait", "0"], "--answer-wait", "0: expected more than 0"),
        (["gap", "none", "--seed", "-1"], "--seed", "-1: expected 0 or more"),
        (["tune", "droop", "--seed", "-1"], "--seed", "-1: expected 0 or more"),
        (["mode", "all", "stopped", "--wait", "-1"], "--wait", "-1: expected more than 0"),
        (["limits", "MG1", "--wait", "nan"], "--wait", "nan: expected a finite number"),
        (["limits", "MG1", "--export", "-1"], "--export", "-1: expected 0 or more"),
        (["simulate", *SETUP, "--min-step-s", "-1"], "--min-step-s", "-1: expected 0 or more"),
        (["simulate", *SETUP, "--min-step-s", "x"], "--min-step-s", "'x': expected a number"),
        (["edge", *SETUP, "--command-wait", "-1"], "--command-wait", "-1: expected 0 or more"),
        (["edge", *SETUP, "--command-wait", "inf"], "--command-wait", "inf: expected a finite"),
    ],
)
def test_a_number_outside_its_range_is_a_usage_error(
    argv: list[str], option: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(argv)
    assert ended.value.code == program.EXIT_USAGE
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"heron {argv[0]}: error: argument {option}: {told}")
