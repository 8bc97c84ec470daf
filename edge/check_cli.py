"""``heron check``: find every mistake in a site file, without touching a device."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from edge.reload import SiteKeeper
from edge.site import load_site, notes
from edge.store import check_store
from edge.timing import PlantTime
from heron.errors import ConfigError, PolicyError
from heron.powergrid.kept_orders import KeptOrders


def run(argv: Sequence[str]) -> int:
    """Run ``heron check``; return 0 when there is nothing to complain about."""
    parser = argparse.ArgumentParser(
        prog="heron check", description="Check a site file, its register maps and its policies."
    )
    parser.add_argument("site_file", type=Path, metavar="SITE.yml")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(list(argv))
    problems: list[str] = []
    told: list[str] = []
    summary: dict[str, Collection[str]] = {}
    try:
        site = load_site(args.site_file)
        SiteKeeper(args.site_file, PlantTime()).prepare(site)
        if site.orders is not None:
            KeptOrders(site.orders)
        if site.store is not None:
            check_store(site.store)
        told = notes(site)
        summary = {
            "links": [link.name for link in site.links],
            "devices": {device.name: str(device.mode) for device in site.devices},
            "meters": [meter.name for meter in site.meters],
        }
    except (ConfigError, PolicyError) as error:
        problems = str(error).splitlines()
    if args.json:
        report = {"ok": not problems, "problems": problems, "notes": told, **summary}
        print(json.dumps(report))
    elif problems:
        print("\n".join(problems))
    else:
        counts = ", ".join(f"{len(part)} {name}" for name, part in summary.items())
        print("\n".join([f"{args.site_file}: ok ({counts})", *(f"note: {note}" for note in told)]))
    return 1 if problems else 0
