"""``heron scan``: what answers behind an address, and a site file to begin with."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from edge.build import connect
from edge.scan import FoundUnit, map_file, scan
from edge.site import LinkConfig
from edge.timing import PlantTime
from heron.errors import ConfigError, ConfigProblem, TransportError

CONNECT_S = 5.0


def run(argv: Sequence[str]) -> int:
    """Run ``heron scan``; return 0 when something answered.

    Raises:
        HeronError: A mistake in the options, or nobody listens at the address.
    """
    parser = argparse.ArgumentParser(
        prog="heron scan", description="Find units and SunSpec models. Only reads."
    )
    parser.add_argument("address", metavar="HOST[:PORT]", help="port 502 by default")
    parser.add_argument("--units", default="1-247", help="e.g. 1-10,200 (default: 1-247)")
    parser.add_argument("--timeout", type=float, default=0.3, help="wall seconds a unit may take")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="SITE.yml",
        help="write a site file, and the maps that it needs",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there already")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(list(argv))
    address = args.address if ":" in args.address else f"{args.address}:502"
    if not 0 < args.timeout <= 5:
        raise ConfigError([ConfigProblem("--timeout", args.timeout, "expected 0 to 5 s")])
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError([ConfigProblem("HOST[:PORT]", address, "expected a port 1 to 65535")])
    if args.write is not None and not args.force:
        _require_new(args.write)
    link = LinkConfig(name="link1", address=address, timeout_s=args.timeout)
    began = time.monotonic()
    found = asyncio.run(_scan(link, _units(args.units)))
    if args.json:
        print(json.dumps([{**asdict(unit), "kind": unit.kind} for unit in found]))
    else:
        for unit in found:
            print(_line(unit))
        print(f"{len(found)} units answered in {time.monotonic() - began:.1f} s")
    if args.write is not None and found:
        files = {args.write: _site_file(link, found)}
        for unit in found:
            if unit.kind == "mapped":
                path = args.write.with_name(map_file(unit.name))
                files[path] = yaml.safe_dump(unit.map, sort_keys=False)
        if not args.force:
            _require_new(*files)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    return 0 if found else 1


def _require_new(*paths: Path) -> None:
    """Refuse to overwrite what an engineer may have edited."""
    expected = "a file that is not there yet, or --force"
    there = [ConfigProblem("--write", str(path), expected) for path in paths if path.exists()]
    if there:
        raise ConfigError(there)


def _units(text: str) -> list[int]:
    units: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError([ConfigProblem("--units", text, "expected e.g. 1-10,200")])
        units += range(int(first), int(last or first) + 1)
    if not units or max(units) > 255:
        raise ConfigError([ConfigProblem("--units", text, "expected unit ids 0 to 255")])
    return units


async def _scan(link: LinkConfig, units: Sequence[int]) -> list[FoundUnit]:
    async with connect(link, PlantTime(), patient=True) as connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                await connection.wait_connected()
        except TimeoutError as error:
            raise TransportError(f"{link.address}: nobody listens there") from error
        return [unit async for unit in scan(connection, units)]


def _line(unit: FoundUnit) -> str:
    if unit.base is None:
        return f"unit {unit.unit:3}  answers, no SunSpec map"
    who = " ".join(unit.identity.get(key, "") for key in ("Mn", "Md", "SN"))
    models = " ".join(str(model.model_id) for model in unit.models)
    return f"unit {unit.unit:3}  {unit.kind:5}  {who}  at {unit.base}: models {models}"


def _site_file(link: LinkConfig, found: Sequence[FoundUnit]) -> str:
    devices: list[dict[str, Any]] = []
    meters: list[dict[str, Any]] = []
    for unit in found:
        entry = unit.site_entry(link.name)
        if entry is not None:
            (meters if unit.kind == "meter" else devices).append(entry)
    body = {
        "site": "site",
        "edge_id": "edge-1",
        "broker": "mqtt://127.0.0.1:1883",
        "links": [{"name": link.name, "kind": link.kind, "address": link.address}],
        "devices": devices,
        "meters": meters,
    }
    head = (
        "# Made by `heron scan`. Check each type, limit, safe set-point and nominal voltage, then\n"
        "# `heron check` this file. Every device starts in monitor mode: nothing is written.\n"
    )
    return head + yaml.safe_dump(body, sort_keys=False)
