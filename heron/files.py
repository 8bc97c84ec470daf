"""Files that others replace while we run, and places where we shall write."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from heron.errors import ConfigError, ConfigProblem

Stamp = tuple[int, int, int]


def stamp_of(path: Path) -> Stamp | None:
    """Return what changes when a file is replaced or written; None when it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def require_writable_file(option: str, path: Path | None) -> None:
    """Refuse a file that cannot be written, before the work whose result it shall take.

    Nothing is made; folders on the way to it may be missing.

    Args:
        option: What named it, for the message.
        path: The file; None: none was asked for.

    Raises:
        ConfigError: It is a folder, may not be written, or stands where no file can be made.
    """
    if path is None:
        return
    try:
        if path.is_dir():
            raise IsADirectoryError("a folder stands there")
        if not path.exists():
            _try_beneath(path.parent)
        elif not os.access(path, os.W_OK):
            raise PermissionError("it may not be written")
    except OSError as error:
        raise _refusal(option, path, "a file", error) from error


def require_writable_folder(option: str, path: Path | None) -> None:
    """Refuse a folder in which nothing can be written, before the work whose result it shall take.

    Nothing is made; the folder, and those on the way to it, may be missing.

    Args:
        option: What named it, for the message.
        path: The folder; None: none was asked for.

    Raises:
        ConfigError: A file stands there or on the way, or nothing may be written there.
    """
    if path is None:
        return
    try:
        _try_beneath(path)
    except OSError as error:
        raise _refusal(option, path, "a folder", error) from error


def write_text(path: Path, text: str) -> None:
    """Write a file, and make the folders on the way to it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _try_beneath(folder: Path) -> None:
    """Make a file without a name in the nearest folder that is there."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"{there} is no folder")
    with tempfile.TemporaryFile(dir=there):
        pass


def _refusal(option: str, path: Path, kind: str, error: OSError) -> ConfigError:
    expected = f"{kind} that can be written: {error.strerror or error}"
    return ConfigError([ConfigProblem(option, str(path), expected)])
