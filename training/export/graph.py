"""The exported network: normalise, a perceptron with tanh, bounds, as an ONNX graph.

The graph is written node by node from the weights, so that the same weights always give the
same bytes and nothing of the training framework travels along.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from heron.policy import container
from heron.policy.manifest import Manifest

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]

OPSET = 18
IR_VERSION = 9


@dataclass(frozen=True, slots=True)
class Network:
    """Weights of a deterministic policy.

    Attributes:
        mean: (obs_dim,) subtracted from the observation.
        std: (obs_dim,) what it is then divided by; floored by the trainer.
        clip: Bound of a normalised observation.
        weights: One (out, in) matrix a layer; tanh stands between two layers.
        biases: One (out,) vector a layer.
    """

    mean: FloatArray
    std: FloatArray
    clip: float
    weights: tuple[FloatArray, ...]
    biases: tuple[FloatArray, ...]

    def forward(self, obs: FloatArray) -> FloatArray:
        """Return the action in [-1, 1] in plain numpy, (n, act_dim)."""
        x = np.clip((obs - self.mean) / self.std, -self.clip, self.clip)
        last = len(self.weights) - 1
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ w.T + b
            if i < last:
                x = np.tanh(x)
        return np.clip(x, -1.0, 1.0).astype(np.float32)

    def restricted(
        self, obs: IntArray, actions: IntArray, constants: FloatArray | None = None
    ) -> Network:
        """Return the network for some of its inputs and outputs only.

        A policy that several agents share is padded; each agent's own file needs only its
        part. What the other inputs add is constant and goes into the first bias.

        Args:
            obs: Inputs to keep, in order.
            actions: Outputs to keep, in order.
            constants: (obs_dim,) what the other inputs hold, before normalising; None: zeros.
        """
        held = np.zeros_like(self.mean) if constants is None else constants
        held = np.clip((held - self.mean) / self.std, -self.clip, self.clip)
        held[obs] = 0.0
        weights = [self.weights[0][:, obs], *self.weights[1:]]
        biases = [(self.biases[0] + self.weights[0] @ held).astype(np.float32), *self.biases[1:]]
        weights[-1], biases[-1] = weights[-1][actions], biases[-1][actions]
        return Network(self.mean[obs], self.std[obs], self.clip, tuple(weights), tuple(biases))


def to_onnx(network: Network, manifest: Manifest) -> bytes:
    """Return a sealed policy file.

    Raises:
        onnx.checker.ValidationError: The graph is not valid (a programming error).
    """
    constants = {
        "mean": network.mean,
        "inverse_std": (1.0 / network.std).astype(np.float32),
        "low": np.float32(-network.clip),
        "high": np.float32(network.clip),
        "minus_one": np.float32(-1.0),
        "one": np.float32(1.0),
    }
    nodes = [
        helper.make_node("Sub", ["obs", "mean"], ["centred"]),
        helper.make_node("Mul", ["centred", "inverse_std"], ["scaled"]),
        helper.make_node("Clip", ["scaled", "low", "high"], ["x0"]),
    ]
    last = len(network.weights) - 1
    for i, (w, b) in enumerate(zip(network.weights, network.biases, strict=True)):
        constants |= {f"w{i}": w, f"b{i}": b}
        out = f"y{i}"
        nodes.append(helper.make_node("Gemm", [f"x{i}", f"w{i}", f"b{i}"], [out], transB=1))
        if i < last:
            nodes.append(helper.make_node("Tanh", [out], [f"x{i + 1}"]))
    nodes.append(helper.make_node("Clip", [f"y{last}", "minus_one", "one"], ["action"]))
    graph = helper.make_graph(
        nodes,
        manifest.name,
        [_io("obs", network.mean.size)],
        [_io("action", network.biases[-1].size)],
        [
            numpy_helper.from_array(np.ascontiguousarray(v, dtype=np.float32), name)
            for name, v in constants.items()
        ],
    )
    model = helper.make_model(
        graph,
        producer_name="heron-hil",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(
        model,
        {
            container.MANIFEST_KEY: manifest.to_json(),
            **{key: "0" * width for key, width in container.SEAL_WIDTHS.items()},
        },
    )
    onnx.checker.check_model(model, full_check=True)
    return container.sealed(model.SerializeToString(deterministic=True))


def _io(name: str, size: int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
