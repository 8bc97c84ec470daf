"""Keeps the figures of a run: CSV, TensorBoard and, if wanted, Weights & Biases."""

from __future__ import annotations

import csv
import importlib
import logging
import os
import socket
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from torch.utils.tensorboard.writer import SummaryWriter

from heron.errors import ConfigError, ConfigProblem
from training.options import TrainOptions

log = logging.getLogger(__name__)

WANDB_URL = "https://api.wandb.ai"
REACH_S = 5.0
"""Seconds within which the server of Weights & Biases must answer."""


@dataclass(frozen=True, slots=True)
class Update:
    """What one update brought.

    Attributes:
        iteration: Counted from 1 over all resumed runs.
        env_steps: Joint steps so far.
        seconds: Wall seconds so far, this run.
        episode_return: Mean sum of the agents' rewards in an episode, in $; None until one ended.
        steps_per_s: Joint steps per wall second of this update, learning included.
        validation_usd: Mean objective (cost and penalty) on validation days, if evaluated.
        best: Whether this is the best policy so far.
    """

    iteration: int
    env_steps: int
    seconds: float
    episode_return: float | None
    steps_per_s: float
    validation_usd: float | None = None
    best: bool = False


class _Sink(Protocol):
    def record(self, update: Update) -> None: ...

    def close(self) -> None: ...


class Recorder:
    """Sends the figures of each update to every place that was asked for.

    Raises:
        ConfigError: Weights & Biases is wanted and not installed.
    """

    def __init__(self, directory: Path, options: TrainOptions) -> None:
        self._sinks: list[_Sink] = []
        if options.wandb:
            self._sinks.append(_Wandb(directory, options))
        self._sinks += [_Csv(directory / "progress.csv"), _TensorBoard(directory)]

    def record(self, update: Update) -> None:
        """Keep one update."""
        for sink in self._sinks:
            sink.record(update)

    def close(self) -> None:
        """Write out what is buffered."""
        for sink in self._sinks:
            sink.close()


class _Csv:
    """One row an update; a resumed run goes on in the same file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def record(self, update: Update) -> None:
        new = not self._path.exists()
        with self._path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(update)])
            if new:
                writer.writeheader()
            writer.writerow(asdict(update))

    def close(self) -> None:
        """Nothing is buffered."""


class _TensorBoard:
    def __init__(self, directory: Path) -> None:
        self._writer = SummaryWriter(str(directory))

    def record(self, update: Update) -> None:
        for name, value in _figures(update).items():
            self._writer.add_scalar(name, value, update.env_steps)

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """Online where a key is set and the server answers; else offline, for ``wandb sync`` later."""

    def __init__(self, directory: Path, options: TrainOptions) -> None:
        try:
            wandb = importlib.import_module("wandb")
        except ImportError as error:
            expected = "the package 'wandb' installed: pip install heron-hil[wandb]"
            raise ConfigError([ConfigProblem("--wandb", True, expected)]) from error
        why = _why_offline()
        if why:
            log.warning("Weights & Biases: %s; offline, send with: wandb sync %s", why, directory)
        self._run = wandb.init(
            project=options.wandb_project,
            name=options.experiment_name,
            dir=str(directory),
            config=options.model_dump(mode="json"),
            mode="offline" if why else "online",
        )

    def record(self, update: Update) -> None:
        self._run.log(_figures(update), step=update.env_steps)

    def close(self) -> None:
        self._run.finish()


def _why_offline() -> str:
    """Return why Weights & Biases cannot be reached; empty if it can."""
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return "WANDB_MODE says so"
    if not os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY is not set"
    url = urlsplit(os.environ.get("WANDB_BASE_URL", WANDB_URL))
    port = url.port or (80 if url.scheme == "http" else 443)
    try:
        socket.create_connection((url.hostname or "", port), timeout=REACH_S).close()
    except OSError as error:
        return f"no network to {url.hostname}:{port} ({error.strerror or error})"
    return ""


def _figures(update: Update) -> dict[str, Any]:
    names = ("episode_return", "steps_per_s", "validation_usd")
    values = {name: getattr(update, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}
