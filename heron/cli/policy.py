"""``heron policy``: look at policy files, check, sign and compare them, and lead those that run."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from heron.cli.policy_field import VERBS, add_verbs, ask
from heron.policy import container, signing
from heron.policy.manifest import Manifest
from heron.policy.onnx_policy import verify


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron policy",
        description="Look at policy files, check, sign and compare them; promote and roll back "
        "those of agents that run.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    show = verbs.add_parser("show", help="what a policy was made for, and how good it was")
    show.add_argument("file", type=Path)
    check = verbs.add_parser("verify", help="exit 0 only if the file is whole (and signed)")
    check.add_argument("file", type=Path)
    check.add_argument("--key", help="public key (64 hex characters) that must have signed it")
    sign = verbs.add_parser("sign", help="sign with an Ed25519 key")
    sign.add_argument("file", type=Path)
    sign.add_argument("--key", type=Path, required=True, help="private key (PEM)")
    sign.add_argument("--new-key", action="store_true", help="make the key file first")
    diff = verbs.add_parser("diff", help="exit 0 only if both fit the same agent")
    diff.add_argument("file", type=Path)
    diff.add_argument("other", type=Path)
    for verb in (show, check, sign, diff):
        verb.add_argument("--json", action="store_true", help="print JSON")
    add_verbs(verbs)
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the sub-command; return its exit code.

    Raises:
        HeronError: What is wrong; `heron.cli.main` says it in one line.
    """
    args = _parser().parse_args(list(argv))
    verbs = {"show": _show, "verify": _verify, "sign": _sign, "diff": _diff}
    verbs |= dict.fromkeys(VERBS, ask)
    return verbs[args.verb](args)


def _show(args: argparse.Namespace) -> int:
    manifest = verify(args.file)
    signer = signing.signed_by(container.metadata(container.read_bytes(args.file)))
    if args.json:
        print(json.dumps({**manifest.model_dump(), "signed_by": signer or None}))
        return 0
    codec = manifest.policy_codec
    rows: list[tuple[str, object]] = [
        ("name", f"{manifest.name} {manifest.version}"),
        ("for", f"{manifest.agent_id} of {manifest.setup}, every {manifest.step_s:g} s"),
        ("trained", f"{manifest.algorithm}, seed {manifest.seed}, {manifest.env_steps} steps"),
        ("on", f"{manifest.engine}, {manifest.created}"),
        ("command", manifest.command),
        ("software", " ".join(f"{k} {v}" for k, v in manifest.software.items())),
        ("parity", f"{manifest.parity_error:.2g}"),
        ("codec", manifest.codec_hash[:16]),
        ("signed by", signer or "nobody"),
        *((f"test {k}", v) for k, v in _flat(manifest.evaluation)),
    ]
    for label, value in rows:
        print(f"{label:<32}{value}")
    print(f"observation ({codec.obs_dim})")
    for spec in codec.fields:
        print(f"  {spec.path} [{spec.unit or '-'}] / {spec.scale:g}")
    print(f"action ({codec.act_dim})")
    for setpoint in codec.setpoints:
        print(f"  {setpoint.path} {setpoint.mapping} [{setpoint.low:g}, {setpoint.high:g}]")
    return 0


def _verify(args: argparse.Namespace) -> int:
    manifest = verify(args.file, args.key)
    if args.json:
        print(json.dumps({"ok": True, "agent_id": manifest.agent_id, "signed": bool(args.key)}))
    else:
        print(f"{args.file}: whole{' and signed by this key' if args.key else ''}")
    return 0


def _sign(args: argparse.Namespace) -> int:
    verify(args.file)
    if args.new_key:
        signing.new_key(args.key)
    blob = signing.sign(container.read_bytes(args.file), args.key)
    part = args.file.with_name(args.file.name + ".part")
    part.write_bytes(blob)
    part.replace(args.file)
    public_key = signing.signed_by(container.metadata(blob))
    print(json.dumps({"public_key": public_key}) if args.json else f"signed by {public_key}")
    return 0


def _diff(args: argparse.Namespace) -> int:
    one, two = verify(args.file), verify(args.other)
    codec = one.policy_codec.differences(two.policy_codec)
    other = _other_differences(one, two)
    if args.json:
        print(json.dumps({"codec": codec, "manifest": other}))
    else:
        print("\n".join([*codec, *other]) or "no difference")
    return 1 if codec else 0


def _other_differences(one: Manifest, two: Manifest) -> list[str]:
    a, b = (dict(_flat(m.model_dump(exclude={"codec", "codec_hash"}))) for m in (one, two))
    return [
        f"{key}: {a.get(key, '-')} here, {b.get(key, '-')} there"
        for key in sorted({*a, *b})
        if a.get(key) != b.get(key)
    ]


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, value))
    return rows
