"""``heron new-project``: a project outside of this repository that runs from its first minute."""

from __future__ import annotations

import argparse
import json
import keyword
import os
import re
import string
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import requires
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem

TEMPLATE = "new_project_template"
LONGEST_NAME = 64
_SUFFIX = ".tmpl"
_DISTRIBUTION = "heron-hil"
_TAKEN = frozenset({"heron", "edge", "controller", "simulator", "training", "tests", "examples"})


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code."""
    parser = argparse.ArgumentParser(
        prog="heron new-project",
        description="Make a project with agents, an environment, a training example and tests.",
    )
    parser.add_argument("name", help="of the project and its folder")
    parser.add_argument("--domain", required=True, help="name of its Python package")
    parser.add_argument("--path", type=Path, default=Path(), help="parent folder (default: here)")
    parser.add_argument("--json", action="store_true", help="print the written files as JSON")
    options = parser.parse_args(list(argv))
    folder = options.path / options.name
    written = make_project(folder, options.name, options.domain)
    if options.json:
        print(json.dumps({"folder": str(folder), "files": [str(p) for p in written]}))
    else:
        print(f"{folder}: {len(written)} files; its README.md says how to go on")
    return 0


def make_project(folder: Path, name: str, domain: str) -> list[Path]:
    """Write a project; return its files, relative to the folder.

    Raises:
        ConfigError: The name or the domain cannot be used, or the folder exists, and nothing is
            written; or the folder cannot be made.
    """
    problems = list(_problems(folder, name, domain))
    if problems:
        raise ConfigError(problems)
    try:
        return [_write(folder, path, text) for path, text in sorted(_rendered(name, domain))]
    except OSError as error:
        expected = f"a folder that can be made: {error.strerror}"
        raise ConfigError([ConfigProblem("folder", str(folder), expected)]) from error


def _write(folder: Path, path: Path, text: str) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
    return path


def _problems(folder: Path, name: str, domain: str) -> Iterator[ConfigProblem]:
    if problem := _name_problem(name):
        yield ConfigProblem("NAME", name, problem)
    elif os.path.lexists(folder):
        yield ConfigProblem("folder", str(folder), "a folder that does not exist yet")
    if problem := _domain_problem(domain):
        yield ConfigProblem("DOMAIN", domain, problem)


def _name_problem(name: str) -> str:
    """Return what is wrong with the name of a project, or nothing."""
    if not re.fullmatch(r"[A-Za-z]([A-Za-z0-9._-]*[A-Za-z0-9])?", name):
        return "letters, digits, '.', '_', '-', a letter first and a letter or digit last"
    if len(name) > LONGEST_NAME:
        return f"at most {LONGEST_NAME} characters"
    if _as_index(name) in _needed():
        return "a name that no package has which the project needs"
    return ""


def _domain_problem(domain: str) -> str:
    """Return what is wrong with the name of a Python package, or nothing."""
    if (
        not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", domain)
        or "__" in domain
        or keyword.iskeyword(domain)
        or domain in _TAKEN
    ):
        taken = ", ".join(sorted(_TAKEN))
        return f"a Python package name: letters, digits and single '_', none of {taken}"
    if len(domain) > LONGEST_NAME:
        return f"at most {LONGEST_NAME} characters"
    if domain in sys.stdlib_module_names:
        return "a name that no module of Python's standard library has"
    if _as_index(domain) in _needed() or domain in sys.modules or find_spec(domain) is not None:
        return "a name that no installed package has"
    return ""


def _as_index(name: str) -> str:
    """Return a name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _needed() -> frozenset[str]:
    """Return the packages that a project and HERON need, installed or not."""
    needed = [re.split(r"[^A-Za-z0-9._-]", text)[0] for text in requires(_DISTRIBUTION) or ()]
    return frozenset(_as_index(name) for name in (_DISTRIBUTION, "setuptools", *needed))


def _rendered(name: str, domain: str) -> Iterator[tuple[Path, str]]:
    """Yield each file's path and text; ``__`` in a template's name separates folders."""
    for entry in files("heron.cli").joinpath(TEMPLATE).iterdir():
        if entry.name.endswith(_SUFFIX):
            stem = entry.name.removesuffix(_SUFFIX)
            parts = stem.replace("____init__", "__@init@").split("__")
            placed = {"DOMAIN": domain, "@init@.py": "__init__.py"}
            path = Path(*(placed.get(part, part) for part in parts))
            text = string.Template(entry.read_text(encoding="utf-8"))
            yield path, text.substitute(name=name, domain=domain)
