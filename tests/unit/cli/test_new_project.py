"""A new project installs, passes its own tests and trains, outside of this repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heron.cli.new_project import make_project, run
from heron.errors import ConfigError


def call(*command: str, cwd: Path, site: Path) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_project_installs_passes_its_tests_and_trains(tmp_path: Path) -> None:
    assert run(["mine", "--domain", "water", "--path", str(tmp_path)]) == 0
    project, site = tmp_path / "mine", tmp_path / "site"
    install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site)]
    call("-m", "pip", *install, str(project), cwd=tmp_path, site=site)
    assert "3 passed" in call("-m", "pytest", "-q", cwd=project, site=site)
    printed = call("examples/train.py", cwd=project, site=site)
    assert "update 3: return" in printed


@pytest.mark.parametrize(
    ("name", "domain", "named"),
    [("a b", "water", "NAME"), ("mine", "class", "DOMAIN"), ("mine", "heron", "DOMAIN")],
)
def test_names_that_cannot_be_used_are_refused_and_nothing_is_written(
    tmp_path: Path, name: str, domain: str, named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        make_project(tmp_path / name, name, domain)
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="does not exist yet"):
        make_project(tmp_path / "mine", "mine", "water")
