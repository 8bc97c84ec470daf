"""The manifest: what a policy was made for, by what, and how good it was.

It is mandatory, stands inside the policy's file, and is checked when the policy is loaded.
"""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from heron.errors import PolicyError
from heron.policy.codec import PolicyCodec

SCHEMA_VERSION = 1
"""Grows when a manifest of the old form can no longer be read."""


class Manifest(BaseModel):
    """What stands in a policy's file.

    Attributes:
        schema_version: Form of the manifest.
        name: Name of the policy.
        version: Version of the policy, the author's.
        agent_id: Coordinator that it decides for.
        setup: Setup that it was trained on.
        engine: Power-flow engine that it was trained on.
        algorithm: How it was trained.
        step_s: Plant seconds between two of its decisions.
        seed: Seed of the training run.
        env_steps: Joint steps that it was trained for.
        command: Command that trained it.
        created: Date and time, ISO 8601, UTC.
        codec: Observation and action, as plain data.
        codec_hash: The codec's hash.
        obs_mean: Mean that the network's normaliser subtracts, (obs_dim,).
        obs_std: Standard deviation that it divides by, (obs_dim,).
        training: Options of the training run.
        evaluation: Figures on days that it was not trained on.
        parity_error: Largest difference between the trained and the exported policy.
        software: Versions of what made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = SCHEMA_VERSION
    name: str
    version: str = "1"
    agent_id: str
    setup: str
    engine: str = ""
    algorithm: str
    step_s: float = Field(gt=0)
    seed: int
    env_steps: int = Field(ge=0)
    command: str = ""
    created: str = ""
    codec: dict[str, Any]
    codec_hash: str
    obs_mean: tuple[float, ...] = ()
    obs_std: tuple[float, ...] = ()
    training: dict[str, Any] = Field(default_factory=dict)
    evaluation: dict[str, Any] = Field(default_factory=dict)
    parity_error: float = Field(0.0, ge=0)
    software: dict[str, str] = Field(default_factory=dict)

    @field_validator("schema_version")
    @classmethod
    def _form_is_known(cls, v: int) -> int:
        if v != SCHEMA_VERSION:
            raise ValueError(f"manifest form {v}: this program reads form {SCHEMA_VERSION}")
        return v

    @model_validator(mode="after")
    def _codec_has_its_hash(self) -> Self:
        if self.policy_codec.hash != self.codec_hash:
            raise ValueError("codec_hash does not belong to the codec")
        return self

    @property
    def policy_codec(self) -> PolicyCodec:
        """The codec."""
        return PolicyCodec.from_dict(self.codec)

    def to_json(self) -> str:
        """Return the text that stands in the file."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read the text that stands in a file.

        Raises:
            PolicyError: It is not a manifest.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(p) for p in first["loc"]) or "manifest"
            raise PolicyError(f"manifest: {where}: {first['msg']}") from error
