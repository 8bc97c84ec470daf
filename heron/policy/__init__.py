"""Policies: the codec of observation and action, the manifest, and the ``.onnx`` file.

The general part of the library: it knows no power grid, no torch and no ray.
"""

from heron.policy.codec import (
    ActionMapping,
    Commandable,
    FieldSpec,
    PolicyCodec,
    SetpointSpec,
    codec_of,
)
from heron.policy.manifest import Manifest
from heron.policy.onnx_policy import OnnxPolicy, verify

__all__ = [
    "ActionMapping",
    "Commandable",
    "FieldSpec",
    "Manifest",
    "OnnxPolicy",
    "PolicyCodec",
    "SetpointSpec",
    "codec_of",
    "verify",
]
