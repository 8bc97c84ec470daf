import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from heron.errors import ConfigError
from heron.powergrid.setups import read_setup
from simulator.cli import run, start_time_s

HERON = [str(Path(sys.executable).parent / "heron"), "simulate"]


def simulate(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*HERON, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_it_says_where_it_serves_and_ends_cleanly_on_sigterm() -> None:
    with simulate("--port", "0", "--json") as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        assert ready["ready"] is True
        assert ready["units"]["ess1"] == {"unit": 2, "port": ready["port"], "kind": "device"}
        with socket.create_connection(("127.0.0.1", ready["port"])) as master:
            master.sendall(bytes.fromhex("000100000006 02 03 9c40 0002"))
            assert master.recv(100)[-4:] == b"SunS"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output)["modbus"]["reads"] == 1


def test_it_does_the_steps_that_it_is_asked_for_and_ends() -> None:
    with simulate(
        "--port", "0", "--pace", "max", "--steps", "5", "--exit-when-finished", "--json"
    ) as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(output.splitlines()[-1])["steps"] == 5


def test_a_taken_port_is_one_line_and_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with simulate("--port", str(port)) as process:
            output, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output == ""
    assert errors.splitlines() == [
        f"heron: simulate: cannot listen on 127.0.0.1:{port}: the port is in use"
    ]


def test_a_broker_that_is_not_there_is_one_line_and_a_failure() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"mqtt://127.0.0.1:{free.getsockname()[1]}"
        with simulate("--port", "0", "--broker", address) as process:
            output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert "broker" in errors


def test_all_mistakes_in_the_options_are_told_at_once() -> None:
    bad = ["--steps", "0", "--port", "70000", "--wait-for", "edge", "--plant-dt", "5"]
    with pytest.raises(ConfigError) as caught:
        run([*bad, "--pace", "max"])
    assert [p.where for p in caught.value.problems] == [
        "--steps",
        "--port",
        "--wait-for",
        "--plant-dt",
    ]


def test_a_setup_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ConfigError, match="no_such_setup"):
        run(["--setup", "no_such_setup"])


def test_starts_are_days_by_kind_or_seconds() -> None:
    setup = read_setup("ieee34_ieee13")
    first_test = float(setup.profiles.test_days[0]) * 86400
    assert start_time_s("auto", setup) == start_time_s("test:0", setup) == first_test
    assert start_time_s("train:1", setup) == float(setup.profiles.train_days[1]) * 86400
    assert start_time_s("day:190", setup) == 190 * 86400
    assert start_time_s("12.5", setup) == 12.5


@pytest.mark.parametrize(
    "text",
    ["test:999", "day:-1", "day:366", "-5", "nan", "soon", "test:", "1e300", "31622400"],
)
def test_a_start_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected seconds \(0 to below 31622400\), auto"):
        start_time_s(text, read_setup("ieee34_ieee13"))
