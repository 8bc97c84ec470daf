"""Every test that the page of mistakes names exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guide-mistakes.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::([\w:]+)`")
ROW = re.compile(r"^\| (?!Mistake|-)", re.MULTILINE)


def defined_in(path: Path) -> set[str]:
    """Return the tests of a file, those of a class as ``Class::test``."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {
            prefix + member.name
            for member in members
            if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)
            and member.name.startswith("test_")
        }
    return found


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(PAGE.read_text()))))
def test_a_test_that_the_page_names_exists(file: str, name: str) -> None:
    assert name in defined_in(ROOT / file)


def test_every_row_names_at_least_one_test() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if ROW.match(line)]
    assert rows
    assert [row for row in rows if not NAMED.search(row)] == []
