"""Keeping an edge process as its site file says, also when the file changes while it runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from edge.build import build_device, build_meter, connect
from edge.cycle import DeviceCycle
from edge.links.connection import ModbusConnection
from edge.runtime import EdgeRuntime
from edge.site import LinkConfig, SiteConfig, SiteDevice, SiteMeter, load_site
from edge.timing import PlantTime
from edge.units import Unit
from heron.errors import ConfigError, ConfigProblem, HeronError, PolicyError
from heron.files import stamp_of
from heron.powergrid.modes import Authority, Mode

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Wall seconds between two looks at the file."""
FIXED = (
    "site",
    "edge_id",
    "broker",
    "period_s",
    "clock",
    "http",
    "policy_key",
    "orders",
    "store",
    "store_max_mb",
    "store_listener",
)
"""Keys that a running process cannot change."""


@dataclass(frozen=True, slots=True)
class Change:
    """What leads from what runs to what a site file says; built, not started.

    Attributes:
        site: What it leads to.
        links: Configuration and connection by link.
        units: Units to be added, by name; those that changed are in ``remove`` too.
        remove: Names of units that go.
        close: Connections that go.
        open: Connections that come.
    """

    site: SiteConfig
    links: dict[str, tuple[LinkConfig, ModbusConnection]]
    units: dict[str, Unit]
    remove: tuple[str, ...]
    close: tuple[ModbusConnection, ...]
    open: tuple[ModbusConnection, ...]


class SiteKeeper:
    """Makes an edge process what a site file says, and goes on doing so.

    A change is built whole before anything is touched: a file with a mistake changes nothing. Units
    that did not change are not disturbed, and what an operator stopped stays stopped.
    """

    def __init__(self, path: Path, time: PlantTime) -> None:
        self._path = path
        self._time = time
        self._stamp = stamp_of(path)
        self._site: SiteConfig | None = None
        self._links: dict[str, tuple[LinkConfig, ModbusConnection]] = {}

    def prepare(self, site: SiteConfig) -> Change:
        """Build what a site needs and does not have yet.

        Raises:
            ConfigError: With every map, policy and certificate that cannot be used.
        """
        problems: list[ConfigProblem] = []
        links: dict[str, tuple[LinkConfig, ModbusConnection]] = {}
        for link in site.links:
            known = self._links.get(link.name)
            try:
                links[link.name] = (
                    known if known and known[0] == link else (link, connect(link, self._time))
                )
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        before = _configs(self._site)
        after = _configs(site)
        same = {
            name
            for name, config in after.items()
            if before.get(name) == config and links[config.link] is self._links.get(config.link)
        }
        units: dict[str, Unit] = {}
        for name, config in after.items():
            if name in same:
                continue
            try:
                units[name] = self._build(config, links[config.link][1], site)
            except ConfigError as error:
                problems += error.problems
            except PolicyError as error:
                problems.append(ConfigProblem(f"{name}.policy", _policy_of(config), str(error)))
        if problems:
            raise ConfigError(problems)
        kept = {id(connection) for _, connection in links.values()}
        had = {id(connection) for _, connection in self._links.values()}
        return Change(
            site,
            links,
            units,
            tuple(name for name in before if name not in same),
            tuple(c for _, c in self._links.values() if id(c) not in kept),
            tuple(c for _, c in links.values() if id(c) not in had),
        )

    def _build(
        self, config: SiteDevice | SiteMeter, connection: ModbusConnection, site: SiteConfig
    ) -> Unit:
        if isinstance(config, SiteMeter):
            return build_meter(config, connection, self._time)
        return build_device(config, connection, site, self._time)

    async def commit(self, change: Change, runtime: EdgeRuntime) -> None:
        """Carry out a change."""
        for connection in change.open:
            await runtime.open(connection)
        for name in change.remove:
            before = runtime.units.devices.get(name)
            await runtime.remove(name)
            after = change.units.get(name)
            if before is not None and isinstance(after, DeviceCycle):
                _keep_stopped(before, after)
        for name, unit in change.units.items():
            await runtime.add(name, unit)
        for connection in change.close:
            await runtime.close(connection)
        self._site, self._links = change.site, change.links
        logger.info("site_applied added=%s removed=%s", list(change.units), list(change.remove))

    async def run(self, first: Change, runtime: EdgeRuntime) -> None:
        """Carry out the first change, then follow the file; until cancelled."""
        await self.commit(first, runtime)
        while True:
            await asyncio.sleep(LOOK_S)
            stamp = stamp_of(self._path)
            if stamp not in (None, self._stamp):
                self._stamp = stamp
                await self._reload(runtime)

    async def _reload(self, runtime: EdgeRuntime) -> None:
        try:
            site = load_site(self._path)
            change = self.prepare(site)
        except HeronError as error:
            for line in str(error).splitlines():
                logger.error("site_refused %s", line)
            return
        new = [n for n, unit in change.units.items() if _is_new(n, unit, runtime)]
        if new:
            try:
                await runtime.require_alone(new)
            except HeronError as error:
                logger.error("site_refused %s", error)
                self._stamp = None  # and looked at again: the other one may have gone by then
                return
        fixed = [k for k in FIXED if getattr(site, k) != getattr(self._site, k)]
        if fixed:
            logger.warning("site_needs_restart keys=%s", fixed)
        await self.commit(change, runtime)


def _is_new(name: str, unit: Unit, runtime: EdgeRuntime) -> bool:
    return isinstance(unit, DeviceCycle) and name not in runtime.units.devices


def _configs(site: SiteConfig | None) -> dict[str, SiteDevice | SiteMeter]:
    if site is None:
        return {}
    return {**{d.name: d for d in site.devices}, **{m.name: m for m in site.meters}}


def _policy_of(config: SiteDevice | SiteMeter) -> str | None:
    return None if isinstance(config, SiteMeter) else str(config.policy)


def _keep_stopped(before: DeviceCycle, after: DeviceCycle) -> None:
    if before.modes.mode is Mode.STOPPED:
        after.modes.request(Mode.STOPPED, Authority.OPERATOR, before.modes.reason)
