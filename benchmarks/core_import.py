"""How long an import takes, beside the start of an empty interpreter and beside numpy.

Each is a process of its own with warm files; the fastest of a few counts. Run
``python -m benchmarks.core_import``. It prints one line an import and exits 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence

STATEMENTS = (
    "import numpy",
    "import heron",
    "import heron.core, heron.agents, heron.protocols, heron.scheduling, heron.messaging",
    "import heron.envs",
    "import heron.powergrid.agents",
)


def seconds(statement: str, repeats: int) -> float:
    """Return the wall seconds of a process that runs a statement, the fastest of some."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", statement], check=True)
        best = min(best, time.perf_counter() - start)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7, help="processes a statement")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    empty = seconds("pass", options.repeats)
    results = {"an empty interpreter": 1000.0 * empty}
    for statement in STATEMENTS:
        results[statement] = 1000.0 * (seconds(statement, options.repeats) - empty)
    if options.json:
        print(json.dumps(results))
    else:
        for name, value in results.items():
            print(f"{name:84s} {value:8.1f} ms")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
