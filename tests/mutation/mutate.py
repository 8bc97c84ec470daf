"""Change one thing in a module at a time and see whether its tests notice.

    python tests/mutation/mutate.py [MODULE] [TEST_FILE ...]

Each mutant runs in a forked process with the module replaced in memory; no file is written. Prints
the mutants that survived and exits with 1 if there are any. Changes that mean the same as the
original are left out; EQUIVALENT lists them with the reason.
"""

from __future__ import annotations

import ast
import copy
import importlib
import os
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis  # noqa: F401 - imported once, before the forks
import pytest

MODULE = "heron.powergrid.envelope"
TEST_FILES = (
    "tests/unit/domain/test_envelope.py",
    "tests/unit/domain/test_envelope_properties.py",
    "tests/unit/domain/test_envelope_taps.py",
)

EQUIVALENT = (
    # A sum of readings is finite or not, whatever the signs in it.
    "reading.p_mw + reading.q_mvar + reading.v_pu + reading.v_min_pu + reading.v_max_pu",
    "reading.p_mw + reading.q_mvar + reading.v_pu + reading.v_min_pu",
    "reading.p_mw + reading.q_mvar + reading.v_pu",
    "reading.p_mw + reading.q_mvar",
    "shown + previous.p_mw",
    "p + q",
    # Where a narrower interval cuts nothing, it does not matter whether it is asked.
    "takes <= low <= high <= gives",
    "-s_max <= low <= high <= s_max",
    "-s_max",
    "-beside <= low <= high <= beside",
    "-beside",
    # At this size self-discharge is beyond what numbers can show.
    "self.self_discharge_per_h < _NEGLIGIBLE",
    # No power, nothing drawn, whichever way it is counted.
    "p_mw > 0.0",
    # A leg of no length is 0 either way, and where the circle touches the ranges it cuts nothing.
    "square > 0.0",
    "p <= limits.s_max_mva",
    "q <= _leg(limits.s_max_mva, p)",
    # `_clip` is called for values outside the interval only.
    "x < low",
)
"""Expressions whose mutants mean the same as the original."""

_COMPARE = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
_COMPARE |= {ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}
_ARITHMETIC = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
_NAMES = {"min": "max", "max": "min"}


def mutants(source: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield (description, tree), each with one change."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    for position, node in enumerate(nodes):
        for change in _changes(node):
            changed = copy.deepcopy(tree)
            target = list(ast.walk(changed))[position]
            before = ast.unparse(target)
            change(target)
            line = getattr(target, "lineno", 0)
            yield f"{line}: {before}  ->  {ast.unparse(target)}", changed


def _changes(node: ast.AST) -> Iterator[types.FunctionType]:
    if isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            if type(op) in _COMPARE:
                yield lambda n, i=i, op=op: n.ops.__setitem__(i, _COMPARE[type(op)]())
    elif isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        if not isinstance(node.left, ast.List):
            yield lambda n: setattr(n, "op", _ARITHMETIC[type(n.op)]())
    elif isinstance(node, ast.BoolOp):
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        yield lambda n: setattr(n, "op", other())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield lambda n: setattr(n, "op", ast.UAdd())
    elif isinstance(node, ast.Call) and getattr(node.func, "id", "") in _NAMES:
        yield lambda n: setattr(n.func, "id", _NAMES[n.func.id])
    elif isinstance(node, ast.Constant) and isinstance(node.value, float):
        yield lambda n: setattr(n, "value", n.value + 1.0)
    elif isinstance(node, ast.Attribute) and node.attr.isupper():
        yield lambda n: setattr(n, "attr", "DEVICE_RULE")


def survives(tree: ast.Module, module: types.ModuleType, test_files: Sequence[str]) -> bool:
    """Run the tests against a mutant in a child process."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status) == 0
    code = 1
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        try:
            exec(
                compile(ast.fix_missing_locations(tree), str(module.__file__), "exec"), vars(module)
            )
        except Exception:  # noqa: BLE001 - a mutant that cannot be imported is noticed
            os._exit(1)
        ignore = "ignore::pytest.PytestAssertRewriteWarning"
        options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout=60", "-W", ignore]
        code = int(pytest.main([*options, *test_files]))
    finally:
        os._exit(code)


def main() -> int:
    """Run all mutants."""
    module_name = sys.argv[1] if len(sys.argv) > 1 else MODULE
    test_files = sys.argv[2:] or TEST_FILES
    module = importlib.import_module(module_name)
    source = Path(str(module.__file__)).read_text()
    if not survives(ast.parse(source), module, test_files):
        print(f"{', '.join(test_files)}: do not pass on {module_name} as it is")
        return 2
    n, alive = 0, []
    for text, tree in mutants(source):
        if text.split(": ", 1)[1].split("  ->  ")[0] in EQUIVALENT:
            continue
        n += 1
        if survives(tree, module, test_files):
            alive.append(text)
            print(f"survived  {text}", flush=True)
    print(f"{n} mutants, {n - len(alive)} noticed, {len(alive)} survived")
    return 1 if alive else 0


if __name__ == "__main__":
    raise SystemExit(main())
