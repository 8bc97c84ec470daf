from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heron.cli.main import main
from heron.cli.policy import run
from heron.errors import ManifestMismatch, PolicyError
from heron.policy import (
    FieldSpec,
    Manifest,
    OnnxPolicy,
    PolicyCodec,
    SetpointSpec,
    container,
    signing,
    verify,
)
from training.export.graph import Network, to_onnx

CODEC = PolicyCodec(
    "MG1",
    (
        FieldSpec("MG1", "Price", "price", "$/MWh", 20.0),
        FieldSpec("ess1", "Storage", "soc", "", 0.4),
        FieldSpec("ess1", "Electrical", "v_pu", "pu", 0.05),
    ),
    (SetpointSpec("ess1", "p_mw", -0.5, 0.5, "centred"), SetpointSpec("gen1", "p_mw", 0.1, 1.0)),
)


def network(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    return Network(
        draw(3), np.abs(draw(3)) + 0.1, 10.0, (draw(8, 3), draw(2, 8)), (draw(8), draw(2))
    )


def manifest(codec: PolicyCodec = CODEC, **changes: object) -> Manifest:
    return Manifest.model_validate(
        {
            "name": "test",
            "agent_id": codec.agent_id,
            "setup": "ieee34_ieee13",
            "algorithm": "PPO",
            "step_s": 900.0,
            "seed": 3,
            "env_steps": 1000,
            "codec": codec.to_dict(),
            "codec_hash": codec.hash,
            **changes,
        }
    )


@pytest.fixture
def policy_file(tmp_path: Path) -> Path:
    path = tmp_path / "MG1.onnx"
    path.write_bytes(to_onnx(network(), manifest()))
    return path


def test_exported_network_gives_what_the_weights_give(policy_file: Path) -> None:
    policy = OnnxPolicy.load(policy_file, CODEC)
    obs = np.random.default_rng(1).normal(size=(500, 3)).astype(np.float32) * 3
    assert np.abs(policy.act(obs) - network().forward(obs)).max() < 1e-5
    assert np.array_equal(policy.act(obs[7]), policy.act(obs)[7])
    assert policy.forward(obs[0]).shape == (2,)


def test_restricted_network_equals_the_padded_one() -> None:
    whole, part = network(), network().restricted(np.array([0, 2]), np.array([1]))
    obs = np.random.default_rng(2).normal(size=(50, 2)).astype(np.float32)
    padded = np.zeros((50, 3), np.float32)
    padded[:, [0, 2]] = obs
    assert np.allclose(part.forward(obs), whole.forward(padded)[:, [1]], atol=1e-6)


def test_same_weights_give_the_same_bytes() -> None:
    assert to_onnx(network(), manifest()) == to_onnx(network(), manifest())


def test_every_flipped_byte_is_noticed(policy_file: Path) -> None:
    blob = bytearray(policy_file.read_bytes())
    for at in range(0, len(blob), 41):
        blob[at] ^= 0x10
        policy_file.write_bytes(blob)
        with pytest.raises(PolicyError):
            verify(policy_file)
        blob[at] ^= 0x10


def test_file_cut_short_is_refused(policy_file: Path) -> None:
    blob = policy_file.read_bytes()
    for size in (0, 1, 100, len(blob) // 2, len(blob) - 1):
        policy_file.write_bytes(blob[:size])
        with pytest.raises(PolicyError, match=r"MG1\.onnx"):
            OnnxPolicy.load(policy_file)


def test_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        OnnxPolicy.load(tmp_path / "nowhere.onnx")


def test_policy_of_another_codec_is_refused_and_the_field_named(policy_file: Path) -> None:
    fields = list(CODEC.fields)
    fields[1] = replace(fields[1], scale=0.5)
    other = PolicyCodec("MG1", tuple(fields), CODEC.setpoints)
    with pytest.raises(ManifestMismatch, match=r"ess1\.Storage\.soc .* / 0.4 here.* / 0.5 there"):
        OnnxPolicy.load(policy_file, other)


def test_not_finite_values_are_refused(policy_file: Path) -> None:
    policy = OnnxPolicy.load(policy_file)
    with pytest.raises(PolicyError, match=r"ess1\.Storage\.soc is not finite"):
        policy.act([1.0, float("nan"), 0.0])
    with pytest.raises(PolicyError, match="expected 3"):
        policy.act([1.0])
    broken = network()
    broken.biases[-1][1] = np.nan
    policy_file.write_bytes(to_onnx(broken, manifest()))
    with pytest.raises(PolicyError, match=r"action: gen1\.p_mw is not finite"):
        OnnxPolicy.load(policy_file).act([0.0, 0.0, 0.0])


def test_manifest_with_unknown_key_or_form_is_refused() -> None:
    good = json.loads(manifest().to_json())
    with pytest.raises(PolicyError, match="surprise"):
        Manifest.from_json(json.dumps({**good, "surprise": 1}))
    with pytest.raises(PolicyError, match="form 99"):
        Manifest.from_json(json.dumps({**good, "schema_version": 99}))
    with pytest.raises(PolicyError, match="codec_hash"):
        Manifest.from_json(json.dumps({**good, "codec_hash": "0" * 64}))


def test_network_of_another_size_than_the_codec_is_refused(policy_file: Path) -> None:
    small = network().restricted(np.array([0, 1]), np.array([0]))
    policy_file.write_bytes(to_onnx(small, manifest()))
    with pytest.raises(ManifestMismatch, match="takes 2 numbers"):
        OnnxPolicy.load(policy_file)


def test_signature_binds_the_file_to_the_key(policy_file: Path, tmp_path: Path) -> None:
    key_file = tmp_path / "key.pem"
    public = signing.new_key(key_file)
    assert key_file.stat().st_mode & 0o077 == 0
    with pytest.raises(PolicyError, match="not signed"):
        OnnxPolicy.load(policy_file, key=public)
    policy_file.write_bytes(signing.sign(policy_file.read_bytes(), key_file))
    assert OnnxPolicy.load(policy_file, key=public).manifest.agent_id == "MG1"
    other = signing.new_key(tmp_path / "other.pem")
    with pytest.raises(PolicyError, match="another key"):
        verify(policy_file, other)
    forged = to_onnx(network(seed=9), manifest())
    seal = container.metadata(policy_file.read_bytes())
    keys = (container.SIGNATURE_KEY, container.PUBLIC_KEY_KEY)
    policy_file.write_bytes(container.with_seal(forged, {k: seal[k] for k in keys}))
    with pytest.raises(PolicyError, match="does not belong"):
        verify(policy_file, public)


def test_command_shows_verifies_signs_and_compares(
    policy_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", str(policy_file)]) == 0
    assert "ess1.Storage.soc" in capsys.readouterr().out
    assert run(["show", "--json", str(policy_file)]) == 0
    assert json.loads(capsys.readouterr().out)["agent_id"] == "MG1"
    key = tmp_path / "key.pem"
    assert run(["sign", str(policy_file), "--key", str(key), "--new-key", "--json"]) == 0
    public = json.loads(capsys.readouterr().out)["public_key"]
    assert run(["verify", str(policy_file), "--key", public]) == 0
    assert main(["policy", "verify", str(policy_file), "--key", "00" * 32]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    other = tmp_path / "other.onnx"
    other.write_bytes(to_onnx(network(), manifest(seed=4)))
    assert run(["diff", str(policy_file), str(other)]) == 0
    assert "seed: 3 here, 4 there" in capsys.readouterr().out
    codec = PolicyCodec("MG1", CODEC.fields[::-1], CODEC.setpoints)
    other.write_bytes(to_onnx(network(), manifest(codec)))
    assert run(["diff", str(policy_file), str(other)]) == 1
