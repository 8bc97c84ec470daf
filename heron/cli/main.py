"""The `heron` program: finds its sub-commands by entry points, imports only the one called.

A package adds a sub-command with an entry point in the group ``heron.commands``: a function
``run(argv) -> int`` whose return value is the exit code. The help line of a command that ships
stands in `SUMMARIES`, so that ``heron --help`` imports none of them.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from heron.errors import HeronError

GROUP = "heron.commands"

FOLLOW_STDIN = "HERON_FOLLOW_STDIN"
"""Environment variable: with it, the process ends itself (SIGTERM) when its standard input
closes. Whoever starts heron processes holds the other end, so that none outlives it."""

SUMMARIES = {
    "up": "run the whole loop: plant, broker, edge agents, coordinators",
    "simulate": "serve an emulated plant over Modbus/TCP",
    "edge": "run device agents against real or emulated devices",
    "check": "find every mistake in a site file of the edge",
    "scan": "find units and SunSpec models behind an address",
    "controller": "run the coordinators and the DSO",
    "setups": "list, show and check setups",
    "policy": "show, check, sign, promote and roll back policies",
    "mode": "stop a device or a coordinator, or put it back into the loop",
    "limits": "limit what a microgrid exports and imports",
    "feeder": "inspect and solve a feeder or a setup's network",
    "train": "train policies",
    "evaluate": "compare policies on test days",
    "export": "write a trained policy as .onnx",
    "new-project": "make a project of your own, outside of this repository",
    "tune": "find the numbers of a baseline on training days",
    "gap": "measure what timing costs: synchronous, event-driven, deployed",
}

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


def commands() -> dict[str, EntryPoint]:
    """Return the sub-commands that are installed, by name, without importing them."""
    return {point.name: point for point in entry_points(group=GROUP)}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code.

    Errors of ours are printed in one line on standard error; a bug keeps its traceback.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else EXIT_USAGE
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"heron {version('heron-hil')}")
        return 0
    name, *rest = arguments
    point = commands().get(name)
    if point is None:
        known = ", ".join(sorted(commands()))
        return _fail(f"unknown command {name!r}: expected one of {known}", EXIT_USAGE)
    if os.environ.get(FOLLOW_STDIN):
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    try:
        return int(point.load()(rest))
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package in ("heron", "edge", "controller", "simulator", "training"):
            return _fail(f"{name}: not installed ({error})")
        return _fail(f"{name} needs the package {package!r}: pip install 'heron-hil[all]'")
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone (`heron setups | head`); say no more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except Exception as error:
        ours = _find_ours(error)
        if ours is None:
            raise
        return _fail(f"{name}: {ours}")


def entry() -> None:
    """Entry point of the console script."""
    sys.exit(main())


def _fail(text: str, code: int = EXIT_ERROR) -> int:
    print(f"heron: {text}", file=sys.stderr)
    return code


def _find_ours(error: BaseException) -> HeronError | None:
    """Return our error, also out of the group in which a task group delivers it."""
    from heron.errors import HeronError

    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error if isinstance(error, HeronError) else None


def _help() -> str:
    found = commands()
    width = max((len(name) for name in found), default=0)
    ordered = [name for name in SUMMARIES if name in found]
    ordered += sorted(found.keys() - SUMMARIES.keys())
    lines = [f"  {name:<{width}}  {SUMMARIES.get(name, found[name].value)}" for name in ordered]
    return "\n".join(
        [
            "usage: heron [--version] [--help] COMMAND ...",
            "",
            "Multi-agent control of power grids: train a policy, run it against real devices.",
            "",
            "commands:",
            *lines,
            "",
            "heron COMMAND --help tells more.",
        ]
    )


def _end_with_stdin() -> None:
    # Without a lock on sys.stdin: the interpreter must be able to end while this waits.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    entry()
