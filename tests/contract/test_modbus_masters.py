"""Masters in other languages poll the emulator, which runs as its own process."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERON = str(Path(sys.executable).parent / "heron")
MASTERS = Path(__file__).parent / "masters"


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    command = [HERON, "simulate", "--port", "0", "--pace", "max", "--steps", "1", "--json"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["port"]
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


def mbpoll(port: int, *arguments: str) -> str:
    command = ["mbpoll", "-m", "tcp", "-p", str(port), "-0", "-1", "-q", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


def test_mbpoll_reads_a_device(port: int) -> None:
    output = mbpoll(port, "-a", "2", "-t", "4:hex", "-r", "40000", "-c", "2", "127.0.0.1")
    assert re.findall(r"\[\d+\]:\s+(0x\w+)", output) == ["0x5375", "0x6E53"]


def test_mbpoll_reads_a_meters_floats(port: int) -> None:
    # model 213: the frequency stands 26 registers behind its ID, high word first (-B)
    output = mbpoll(port, "-a", "200", "-t", "4:float", "-B", "-r", "40096", "-c", "1", "127.0.0.1")
    assert re.findall(r"\[40096\]:\s+(\S+)", output) == ["60"]


def test_mbpoll_commands_a_device_and_reads_it_back(port: int) -> None:
    mbpoll(port, "-a", "2", "-t", "4", "-r", "40299", "127.0.0.1", "1", "1", "0", "50000")
    output = mbpoll(port, "-a", "2", "-t", "4", "-r", "40299", "-c", "4", "127.0.0.1")
    assert re.findall(r"\[\d+\]:\s+(\d+)", output) == ["1", "1", "0", "50000"]


def test_mbpoll_is_told_that_a_unit_is_not_there(port: int) -> None:
    output = mbpoll(port, "-a", "99", "-t", "4", "-r", "40000", "-c", "1", "127.0.0.1")
    assert "Target device failed to respond" in output


@pytest.mark.node
def test_node_modbus_serial_polls_concurrently(port: int) -> None:
    """Needs ``npm ci`` in ``tests/contract/masters``."""
    done = subprocess.run(
        ["node", "poll.js", str(port), "6"],
        cwd=MASTERS,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result.pop("identity") == {"0": "HERON-HIL", "1": "Emulated DER", "2": "1"}
    assert result == {
        "marker": "SunS",
        "model": 701,
        "concurrent": 50,
        "written": [1, 1, 0, 50000],
        "disabled": 0,
        "read_only": 2,
        "no_address": 2,
        "no_unit": 11,
        "coil": False,
        "finished": True,
    }
