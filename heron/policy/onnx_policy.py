"""A policy from an ``.onnx`` file, checked before it may decide anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from heron.errors import ManifestMismatch, PolicyError
from heron.policy import container, signing
from heron.policy.codec import FloatArray, PolicyCodec
from heron.policy.manifest import Manifest


def verify(path: str | Path, key: str | None = None) -> Manifest:
    """Check a policy's file without running it.

    Args:
        path: The ``.onnx`` file.
        key: Public key (64 hex characters) that must have signed it; None asks for none.

    Raises:
        PolicyError: It cannot be read, is damaged, has no valid manifest, or is not signed
            by the key.
    """
    return _checked(Path(path), key)[1]


class OnnxPolicy:
    """A trained policy: scaled observation in, normalised action in [-1, 1] out.

    One thread and no spinning: a session never takes a core from the control cycle. Calling
    it takes microseconds, so call it in the coroutine and not in a thread.
    """

    def __init__(self, manifest: Manifest, session: Any, path: Path) -> None:
        self._manifest = manifest
        self._codec = manifest.policy_codec
        self._session = session
        self._path = path

    @classmethod
    def load(
        cls,
        path: str | Path,
        codec: PolicyCodec | None = None,
        key: str | None = None,
        setup: str | None = None,
    ) -> Self:
        """Load a policy and refuse one that does not fit.

        Args:
            path: The ``.onnx`` file.
            codec: Codec of the agent that it will decide for; None takes the file's.
            key: Public key that must have signed it; None asks for none.
            setup: Name of the setup that it will run on; None takes any. Two setups may have
                one codec and still be two different grids.

        Raises:
            ManifestMismatch: It was made for another codec (the message says which field) or
                for another setup.
            PolicyError: It cannot be read, is damaged, or is not signed by the key.
        """
        where = Path(path)
        blob, manifest = _checked(where, key)
        if codec is not None:
            manifest.policy_codec.require_same(codec, str(where))
        if setup is not None and manifest.setup != setup:
            raise ManifestMismatch(f"{where}: made for setup {manifest.setup!r}, not for {setup!r}")
        session = _session(blob, where)
        made_for = manifest.policy_codec
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if [i.name for i in inputs] != ["obs"] or [o.name for o in outputs] != ["action"]:
            raise ManifestMismatch(f"{where}: expected one input 'obs' and one output 'action'")
        if inputs[0].shape[-1] != made_for.obs_dim or outputs[0].shape[-1] != made_for.act_dim:
            raise ManifestMismatch(
                f"{where}: the network takes {inputs[0].shape[-1]} numbers and gives "
                f"{outputs[0].shape[-1]}, the codec has {made_for.obs_dim} and {made_for.act_dim}"
            )
        return cls(manifest, session, where)

    @property
    def manifest(self) -> Manifest:
        """What it was made for, and how good it was."""
        return self._manifest

    @property
    def codec(self) -> PolicyCodec:
        """Its observation and action."""
        return self._codec

    @property
    def path(self) -> Path:
        """Where it came from."""
        return self._path

    def act(self, obs: npt.ArrayLike) -> FloatArray:
        """Decide.

        Args:
            obs: Scaled observation, (obs_dim,) or (n, obs_dim).

        Returns:
            Normalised action in [-1, 1], (act_dim,) or (n, act_dim).

        Raises:
            PolicyError: The observation has the wrong length or holds a value that is not
                finite (the message names the field), or the network's answer does.
        """
        x = np.asarray(obs, dtype=np.float32)
        if x.shape[-1:] != (self._codec.obs_dim,) or x.ndim > 2:
            raise PolicyError(f"observation of shape {x.shape}: expected {self._codec.obs_dim}")
        if not np.isfinite(x).all():
            bad = self._codec.fields[int(np.argwhere(~np.isfinite(x))[0][-1])]
            raise PolicyError(f"observation: {bad.path} is not finite")
        action = np.asarray(self._session.run(None, {"obs": np.atleast_2d(x)})[0], np.float32)
        if not np.isfinite(action).all():
            bad_setpoint = self._codec.setpoints[int(np.argwhere(~np.isfinite(action))[0][-1])]
            raise PolicyError(f"action: {bad_setpoint.path} is not finite")
        clipped = np.clip(action, -1.0, 1.0)
        return clipped[0] if x.ndim == 1 else clipped

    def forward(self, observation: Any) -> FloatArray:
        """Decide from an observation object or vector; the agents' name for `act`."""
        vector = getattr(observation, "vector", None)
        return self.act(observation if vector is None else vector())


def _checked(path: Path, key: str | None) -> tuple[bytes, Manifest]:
    blob = container.read_bytes(path)
    try:
        found = container.metadata(blob)
        if container.digest(blob) != found[container.DIGEST_KEY]:
            raise PolicyError("damaged: the content does not match its digest")
        signing.require_whole(found)
        if container.MANIFEST_KEY not in found:
            raise PolicyError("not a policy of this project: it has no manifest")
        if key is not None:
            signing.check(blob, key)
        return blob, Manifest.from_json(found[container.MANIFEST_KEY])
    except PolicyError as error:
        raise type(error)(f"{path}: {error}") from error


def _session(blob: bytes, path: Path) -> Any:
    try:
        import onnxruntime as ort
        from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors
    except ImportError as error:
        raise PolicyError(
            "running a policy needs the package 'onnxruntime': pip install heron-hil[edge]"
        ) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(blob, options, providers=["CPUExecutionProvider"])
    except (
        ort_errors.Fail,
        ort_errors.InvalidArgument,
        ort_errors.InvalidGraph,
        ort_errors.InvalidProtobuf,
        ort_errors.NotImplemented,
        ort_errors.RuntimeException,
    ) as error:
        raise PolicyError(f"{path}: the network cannot be loaded: {error}") from error
