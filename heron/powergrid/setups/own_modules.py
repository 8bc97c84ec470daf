"""Python modules of the user's that a setup or an installed package brings: device types, schemes.

A setup names them under ``imports``; a package names its device types as entry points of the group
``heron.device_types``, each under the type's name. Importing such a module registers what it has.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from heron.errors import ConfigError, ConfigProblem

DEVICE_TYPES = "heron.device_types"
"""Group of the entry points by which packages bring device types."""
_STAMP = "__heron_stamp__"


def is_file(text: str) -> bool:
    """Return whether a module is named by its file rather than by its name."""
    return text.endswith(".py")


def file_beside(folder: Path, text: str) -> str:
    """Return a module as it is, a file's found from a folder."""
    return str((folder / text).resolve()) if is_file(text) else text


def load_module(text: str) -> ModuleType:
    """Import a module by name, or from a file.

    A file runs once in a process, and once more each time that it has changed since.

    Args:
        text: ``package.module``, or ``FILE.py`` from the working directory.

    Raises:
        ImportError: There is none, or it fails; the message says why, in one line.
    """
    try:
        return _from_file(Path(text).resolve()) if is_file(text) else importlib.import_module(text)
    except Exception as error:  # whatever a user's module does when it runs
        raise ImportError(_reason(error, text)) from error


def import_problems(modules: Sequence[str], source: str = "") -> list[ConfigProblem]:
    """Import the modules that a setup names, in order; return a problem for each that fails."""
    problems = []
    for k, text in enumerate(modules):
        try:
            load_module(text)
        except ImportError as error:
            expected = f"a module that can be loaded: {error}"
            problems.append(ConfigProblem(f"imports[{k}]", text, expected, source))
    return problems


def packaged_types() -> set[str]:
    """Return the names of the device types that installed packages bring."""
    return {point.name for point in entry_points(group=DEVICE_TYPES)}


def import_packaged_type(name: str) -> None:
    """Import what an installed package brings as a device type, if one does.

    Raises:
        ConfigError: It cannot be imported.
    """
    for point in entry_points(group=DEVICE_TYPES, name=name):
        try:
            load_module(point.module)
        except ImportError as error:
            what = f"entry point {point.value} of {DEVICE_TYPES} cannot be loaded"
            raise ConfigError(f"device type {name}: {what}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    """Run a file as a module, unless that was done and it is as it was."""
    spec_name = _name_for(path)
    stat = path.stat()
    stamp = (stat.st_mtime_ns, stat.st_size)
    before = sys.modules.get(spec_name)
    # Without a stamp Python imported it, from the same file.
    if before is not None and getattr(before, _STAMP, stamp) == stamp:
        return before
    spec = importlib.util.spec_from_file_location(spec_name, path)
    if spec is None or spec.loader is None:
        raise ImportError("no Python file")
    module = importlib.util.module_from_spec(spec)
    setattr(module, _STAMP, stamp)
    # Dataclasses look their module up by name, and modules named later may import it.
    sys.modules[spec_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec_name]
        raise
    return module


def _name_for(path: Path) -> str:
    """Return the name of a file's module: its stem, unless another module has that."""
    taken = sys.modules.get(path.stem)
    if taken is None:
        free = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
        origin = None if free is None else free.origin
        if origin is None or origin == str(path):
            return path.stem
    elif getattr(taken, "__file__", None) == str(path):
        return path.stem
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _reason(error: Exception, text: str) -> str:
    """Say in one line why a module cannot be loaded, and where in it."""
    said = str(error).partition("\n")[0]
    if isinstance(error, OSError) and error.strerror:
        said = error.strerror
    elif not isinstance(error, ImportError | SyntaxError):
        said = f"{type(error).__name__}: {said}" if said else type(error).__name__
    if isinstance(error, SyntaxError) or not is_file(text):
        return said
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename) == Path(text).resolve()
    ]
    return f"{said} (line {lines[-1]})" if lines else said
