"""What operators ordered, in a file: a stop outlives the process that it stopped.

A process that is started again, by a supervisor or after a power cut, must not drive a device that
somebody stopped to work on it. Kept are the orders that take an agent out of ``closed_loop``, until
an operator puts it back, and the limits at connections that were set while it ran.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.connection import ConnectionLimits
from heron.powergrid.modes import Authority, Mode, ModeMachine

logger = logging.getLogger(__name__)

Limit = Annotated[float, Field(ge=0, allow_inf_nan=False)]


SUFFIX = ".orders.json"
STATE_DIRECTORY = "STATE_DIRECTORY"
"""Variable in which a service manager says where a service may keep what outlives it.

Source: systemd.exec(5), StateDirectory=.
"""


def orders_file(process: str, otherwise: Path | None = None) -> Path | None:
    """Return where a process keeps operators' orders if nothing else is said.

    Args:
        process: Its name.
        otherwise: Folder where no service manager gives one; None: they are not kept.
    """
    folder = state_folder(otherwise)
    return None if folder is None else folder / f"{process}{SUFFIX}"


def state_folder(otherwise: Path | None = None) -> Path | None:
    """Return where a process may keep what outlives it: the service manager's folder, if any."""
    given = os.environ.get(STATE_DIRECTORY)
    return otherwise if given is None else Path(given)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _KeptMode(_Record):
    mode: Mode
    reason: str
    writes: bool


class _KeptLimits(_Record):
    p_export_max_mw: Limit | None = None
    p_import_max_mw: Limit | None = None


class _Contents(_Record):
    modes: dict[str, _KeptMode] = {}
    limits: dict[str, _KeptLimits] = {}


class KeptOrders:
    """Operators' orders of one process.

    Args:
        path: The file; it need not be there yet.

    Raises:
        ConfigError: The file is there and cannot be read: whoever starts the process decides what
            held, not a guess.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = _read(path)

    def recall(self, agent: str, modes: ModeMachine) -> None:
        """Put an agent that starts into the mode that an operator ordered, if one did."""
        kept = self._kept.modes.get(agent)
        if kept is None:
            return
        modes.resume(kept.mode, kept.reason, writes=kept.writes)
        logger.warning("mode_kept agent=%s mode=%s reason=%s", agent, kept.mode, kept.reason)

    def note_mode(self, agent: str, modes: ModeMachine) -> None:
        """Keep an agent's mode if an operator ordered it; forget it once it may drive again."""
        kept = dict(self._kept.modes)
        if modes.ordered_by is Authority.OPERATOR and modes.mode is not Mode.CLOSED_LOOP:
            kept[agent] = _KeptMode(mode=modes.mode, reason=modes.reason, writes=modes.writes)
        else:
            kept.pop(agent, None)
        self._write(self._kept.model_copy(update={"modes": kept}))

    def stopped(self) -> tuple[str, ...]:
        """Return whom an operator stopped."""
        return tuple(n for n, kept in self._kept.modes.items() if kept.mode is Mode.STOPPED)

    def limits(self) -> dict[str, ConnectionLimits]:
        """Return the limits that operators set, by microgrid."""
        return {
            name: ConnectionLimits(kept.p_export_max_mw, kept.p_import_max_mw)
            for name, kept in self._kept.limits.items()
        }

    def note_limits(self, microgrid: str, limits: ConnectionLimits) -> None:
        """Keep the limits at a microgrid's connection."""
        kept = _KeptLimits(
            p_export_max_mw=limits.p_export_max_mw, p_import_max_mw=limits.p_import_max_mw
        )
        limits_now = {**self._kept.limits, microgrid: kept}
        self._write(self._kept.model_copy(update={"limits": limits_now}))

    def _write(self, contents: _Contents) -> None:
        """Write it whole; an order that cannot be kept is obeyed all the same, and said so."""
        if contents == self._kept:
            return
        self._kept = contents
        part = self._path.with_name(f"{self._path.name}.part")
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(contents.model_dump_json(indent=1))
                file.flush()
                os.fsync(file.fileno())
            part.replace(self._path)
        except OSError as error:
            logger.error("order_not_kept file=%s why=%s", self._path, error)


def lost_stops(path: Path, devices: Collection[str]) -> Iterator[ConfigProblem]:
    """Yield each stop that would be lost: of a device, or a process, that has another name now.

    Args:
        path: The orders of this process.
        devices: Whom it looks after.

    Raises:
        ConfigError: A file is there and cannot be read.
    """
    for name in KeptOrders(path).stopped():
        if name not in devices:
            expected = f"a device of the site: an operator stopped it (see {path}); put it back "
            expected += "before you rename it, or take it out of that file if it is gone"
            yield ConfigProblem("devices", name, expected)
    for other in sorted(path.parent.glob(f"*{SUFFIX}")):
        if other != path:
            for name in sorted(set(KeptOrders(other).stopped()) & set(devices)):
                expected = f"not stopped by an operator in {other}: was the process renamed? "
                expected += f"Rename that file to {path.name}, or remove it"
                yield ConfigProblem("devices", name, expected)


def _read(path: Path) -> _Contents:
    try:
        return _Contents.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        if not path.parent.is_dir():
            expected = "a file in a folder that exists"
            raise ConfigError([ConfigProblem("orders", str(path), expected)]) from None
        return _Contents()
    except OSError as error:
        raise ConfigError([ConfigProblem("orders", str(path), str(error))]) from error
    except ValidationError as error:
        expected = (
            "operators' orders as this program wrote them; it is damaged: look what was stopped, "
            "then remove it"
        )
        raise ConfigError([ConfigProblem("orders", str(path), expected)]) from error
