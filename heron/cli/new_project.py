"""``heron new-project``: a project outside of this repository that runs from its first minute."""

from __future__ import annotations

import argparse
import json
import keyword
import re
import string
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem

TEMPLATE = "new_project_template"
_SUFFIX = ".tmpl"
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
        ConfigError: The name or the domain cannot be used, or the folder exists; nothing is
            written then.
    """
    problems = list(_problems(folder, name, domain))
    if problems:
        raise ConfigError(problems)
    written = []
    for path, text in sorted(_rendered(name, domain)):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _problems(folder: Path, name: str, domain: str) -> Iterator[ConfigProblem]:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name):
        yield ConfigProblem("NAME", name, "letters, digits, '.', '_', '-', a letter first")
    if not domain.isidentifier() or keyword.iskeyword(domain) or domain in _TAKEN:
        taken = ", ".join(sorted(_TAKEN))
        yield ConfigProblem("DOMAIN", domain, f"a Python package name, none of {taken}")
    if folder.exists():
        yield ConfigProblem("folder", str(folder), "a folder that does not exist yet")


def _rendered(name: str, domain: str) -> Iterator[tuple[Path, str]]:
    """Yield each file's path and text; ``__`` in a template's name separates folders."""
    for entry in files("heron.cli").joinpath(TEMPLATE).iterdir():
        if entry.name.endswith(_SUFFIX):
            stem = entry.name.removesuffix(_SUFFIX).replace("DOMAIN", domain)
            stem = stem.replace("____init__", "/@init@").replace("__", "/")
            path = Path(stem.replace("@init@", "__init__"))
            text = string.Template(entry.read_text(encoding="utf-8"))
            yield path, text.substitute(name=name, domain=domain)
