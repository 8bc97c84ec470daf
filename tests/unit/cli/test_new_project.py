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
    [
        ("a b", "water", "NAME"),
        ("", "water", "NAME"),
        ("mine.", "water", "NAME"),
        ("mine-", "water", "NAME"),
        ("mine_", "water", "NAME"),
        ("m" * 65, "water", "NAME"),
        ("heron-hil", "water", "NAME"),
        ("Heron_HIL", "water", "NAME"),
        ("torch", "water", "NAME"),
        ("mine", "class", "DOMAIN"),
        ("mine", "heron", "DOMAIN"),
        ("mine", "edge", "DOMAIN"),
        ("mine", "w__x", "DOMAIN"),
        ("mine", "__init__", "DOMAIN"),
        ("mine", "_", "DOMAIN"),
        ("mine", "", "DOMAIN"),
        ("mine", "w" * 65, "DOMAIN"),
        ("mine", "json", "DOMAIN"),
        ("mine", "numpy", "DOMAIN"),
        ("mine", "gymnasium", "DOMAIN"),
        ("mine", "pytest", "DOMAIN"),
        ("mine", "yaml", "DOMAIN"),
    ],
)
def test_names_that_cannot_be_used_are_refused_and_nothing_is_written(
    tmp_path: Path, name: str, domain: str, named: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_project(tmp_path / name, name, domain)
    assert [(p.where, p.value) for p in caught.value.problems] == [
        (named, name if named == "NAME" else domain)
    ]
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="does not exist yet"):
        make_project(tmp_path / "mine", "mine", "water")


def test_a_link_to_nowhere_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="does not exist yet"):
        make_project(tmp_path / "mine", "mine", "water")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "mine"
    with pytest.raises(ConfigError) as caught:
        make_project(folder, "mine", "water")
    assert (
        str(caught.value) == f"folder = {str(folder)!r}: a folder that can be made: Not a directory"
    )


def test_single_underscores_of_a_domain_stay_in_its_package(tmp_path: Path) -> None:
    written = make_project(tmp_path / "mine", "mine", "waste_water_")
    assert {path.parts[0] for path in written if path.suffix == ".py"} == {
        "waste_water_",
        "examples",
        "tests",
    }
    assert Path("waste_water_/envs/__init__.py") in written


def test_the_readme_installs_heron_before_the_project(tmp_path: Path) -> None:
    make_project(tmp_path / "mine", "mine", "water")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert 0 < text.index('install "heron-hil[training] @ file:///') < text.index('-e ".[dev]"')
