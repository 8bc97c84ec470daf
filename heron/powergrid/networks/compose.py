"""Composition: a setup's feeder and microgrids become one grid.

A microgrid joins at a bus of the feeder's primary voltage through its own transformer, whose
primary side takes that bus's nominal voltage. Names carry their area: ``DSO Bus 850``,
``MG1 Bus 633``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from heron.errors import ConfigError, ConfigProblem
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.networks.elements import (
    Bus,
    Capacitor,
    Line,
    Load,
    Regulator,
    Transformer,
)
from heron.powergrid.networks.feeder import Feeder, load_feeder
from heron.powergrid.networks.grid import (
    DeviceConnection,
    Grid,
    MicrogridConnection,
    balanced_source,
)
from heron.powergrid.networks.tap_changers import Commanded, Commander, commanded

if TYPE_CHECKING:
    from heron.powergrid.setups.models import DeviceEntry, MicrogridConfig, SetupConfig

DEFAULT_HEAD_KVA = 1500.0
"""Rating of a microgrid's transformer when the setup gives none; 5.75 % x, 1.1 % r."""

_Branch = TypeVar("_Branch", Line, Transformer, Regulator)
_Shunt = TypeVar("_Shunt", Capacitor, Load)


def compose(config: SetupConfig) -> Grid:
    """Join a setup's microgrids to its feeder.

    Regulators with a control in the setup start at neutral and move; the feeder's others stay
    at their published tap, a microgrid's own regulators at neutral. Capacitors are in or out
    as the setup says, area by area. A tap that a Transformer device commands starts at neutral.

    Raises:
        ConfigError: Every unknown network, bus, phase or regulator, and every microgrid at
            the wrong voltage, with its key.
    """
    problems: list[ConfigProblem] = []
    parts = _Parts()
    dso = config.dso_config
    feeder = _network(dso.network, "dso_config.network", problems)
    feeders: list[Feeder | None] = [
        _network(m.network, f"microgrid_configs[{k}].network", problems)
        for k, m in enumerate(config.microgrid_configs)
    ]
    if feeder is not None:
        problems += _feeder_problems(config, feeder)
        scales = {_local(b, dso.name): s for b, s in dso.bus_load_scale.items()}
        parts.add(
            feeder,
            dso.name,
            {b.name: dso.load_scale * scales.get(b.name, 1.0) for b in feeder.buses},
            capacitors=[
                c.model_copy(update={"control": dso.capacitor_controls.get(c.name, c.control)})
                for c in feeder.capacitors
                if dso.capacitors
            ],
            regulators=_feeder_regulators(config, feeder),
        )
    for k, (microgrid, network) in enumerate(zip(config.microgrid_configs, feeders, strict=True)):
        where = f"microgrid_configs[{k}]"
        if network is not None:
            problems += _device_problems(microgrid, network, where)
            parts.add(
                network,
                microgrid.name,
                {b.name: microgrid.load_scale for b in network.buses},
                capacitors=network.capacitors if microgrid.capacitors else (),
                regulators=tuple(
                    r.model_copy(update={"tap": 0, "control": None}) for r in network.regulators
                ),
            )
        if feeder is not None:
            refusal = _join_problem(microgrid, feeder, dso.name, where)
            if refusal is not None:
                problems.append(refusal)
            elif network is not None:
                parts.join(microgrid, feeder, network, dso.name)
    units = commanded(_commanders(config), parts.buses, parts.transformers, parts.regulators)
    if feeder is not None and None not in feeders:  # else names are missing for another reason
        problems += units.problems
    if problems or feeder is None:
        raise ConfigError(problems)
    return Grid(
        name=config.name or dso.network,
        areas=(dso.name, *config.microgrid_ids),
        buses=units.buses,
        lines=tuple(parts.lines),
        transformers=units.transformers,
        regulators=units.regulators,
        capacitors=tuple(parts.capacitors),
        loads=tuple(parts.loads),
        devices=tuple(
            _connection(m.name, entry, units)
            for m in config.microgrid_configs
            for entry in m.devices
        ),
        microgrids=tuple(parts.microgrids),
        source_bus=bus_name(dso.name, feeder.head),
        source_v_pu=balanced_source(dso.source_v_pu),
        tap_changers=units.tap_changers,
        line_ratings=config.line_ratings,
    )


def _commanders(config: SetupConfig) -> Iterator[Commander]:
    for m, microgrid in enumerate(config.microgrid_configs):
        for d, entry in enumerate(microgrid.devices):
            device = entry.device_state_config
            if isinstance(device, TransformerConfig):
                where = f"microgrid_configs[{m}].devices[{d}].device_state_config"
                yield Commander(microgrid.name, entry.name, device, where)


def _connection(area: str, entry: DeviceEntry, units: Commanded) -> DeviceConnection:
    """Return where a device is connected; a tap changer without a bus is at its output."""
    config = entry.device_state_config
    phases = "".join(config.phases)
    if config.bus:
        return DeviceConnection(entry.name, bus_name(area, _local(config.bus, area)), phases, area)
    changer = next(c for c in units.tap_changers if c.device_id == entry.name)
    members = [units.regulators[k] for k in changer.regulators]
    carried = {p for r in members for p in r.phases}
    there = "".join(p for p in phases if p in carried)
    return DeviceConnection(entry.name, members[0].to_bus, there, area)


def bus_name(area: str, bus: str) -> str:
    """Return the name of a feeder's bus in a composed grid."""
    return f"{area} Bus {bus}"


def _local(bus: str, area: str) -> str:
    """Strip the area and the word Bus from a name that a user wrote."""
    return bus.removeprefix(f"{area} ").removeprefix("Bus ")


@dataclass(slots=True)
class _Parts:
    buses: list[Bus] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    transformers: list[Transformer] = field(default_factory=list)
    regulators: list[Regulator] = field(default_factory=list)
    capacitors: list[Capacitor] = field(default_factory=list)
    loads: list[Load] = field(default_factory=list)
    microgrids: list[MicrogridConnection] = field(default_factory=list)

    def add(
        self,
        feeder: Feeder,
        area: str,
        load_scale: Mapping[str, float],
        *,
        capacitors: Iterable[Capacitor],
        regulators: Iterable[Regulator],
    ) -> None:
        """Take over a feeder's elements under the area's names."""

        def branch(x: _Branch) -> _Branch:
            ends = {"from_bus": bus_name(area, x.from_bus), "to_bus": bus_name(area, x.to_bus)}
            return x.model_copy(update={"name": f"{area} {x.name}", "area": area, **ends})

        def shunt(x: _Shunt, **update: object) -> _Shunt:
            place = {"name": f"{area} {x.name}", "area": area, "bus": bus_name(area, x.bus)}
            return x.model_copy(update={**place, **update})

        self.buses += [
            b.model_copy(update={"name": bus_name(area, b.name), "area": area})
            for b in feeder.buses
        ]
        self.lines += [branch(x) for x in feeder.lines]
        self.transformers += [branch(x) for x in feeder.transformers]
        self.regulators += [branch(x) for x in regulators]
        self.capacitors += [shunt(x) for x in capacitors]
        self.loads += [
            shunt(x, kw=x.kw * load_scale[x.bus], kvar=x.kvar * load_scale[x.bus])
            for x in feeder.loads
        ]

    def join(self, microgrid: MicrogridConfig, feeder: Feeder, network: Feeder, dso: str) -> None:
        """Connect a microgrid's head to the feeder through its transformer."""
        bus = _local(microgrid.connection_bus, dso)
        head = microgrid.transformer
        transformer = Transformer(
            name=f"{microgrid.name} head",
            area=microgrid.name,
            from_bus=bus_name(dso, bus),
            to_bus=bus_name(microgrid.name, network.head),
            kv_from=feeder.bus_by_name[bus].kv_ln * math.sqrt(3),
            kv_to=network.bus_by_name[network.head].kv_ln * math.sqrt(3),
            kva=DEFAULT_HEAD_KVA if head is None else head.s_kva,
            r_pct=1.1 if head is None else head.r_pct,
            x_pct=5.75 if head is None else head.x_pct,
            tap=1.0 if head is None else head.tap,
            connection="wye-wye" if head is None else head.connection,
        )
        self.transformers.append(transformer)
        self.microgrids.append(
            MicrogridConnection(
                name=microgrid.name,
                connection_bus=transformer.from_bus,
                head_bus=transformer.to_bus,
                transformer=transformer.name,
            )
        )


def _network(name: str, where: str, problems: list[ConfigProblem]) -> Feeder | None:
    try:
        return load_feeder(name)
    except ConfigError as error:
        problems += [
            ConfigProblem(
                where if p.where == "network" else f"{where}: {p.where}", p.value, p.expected
            )
            for p in error.problems
        ]
        return None


def _no_such_bus(bus: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(bus, list(names), n=3, cutoff=0.5)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"no such bus{hint}"


def _feeder_problems(config: SetupConfig, feeder: Feeder) -> Iterable[ConfigProblem]:
    dso = config.dso_config
    for key, scale in dso.bus_load_scale.items():
        where = f"dso_config.bus_load_scale[{key!r}]"
        if _local(key, dso.name) not in feeder.bus_by_name:
            buses = [f"Bus {b}" for b in feeder.bus_by_name]
            yield ConfigProblem(where, key, _no_such_bus(f"Bus {_local(key, dso.name)}", buses))
        if not 0.0 <= scale <= 10.0:
            yield ConfigProblem(where, scale, "expected 0 to 10")
    known = sorted(c.name for c in feeder.capacitors)
    for key in dso.capacitor_controls:
        if key not in known:
            expected = f"no such capacitor; expected one of {', '.join(known) or 'none'}"
            yield ConfigProblem(f"dso_config.capacitor_controls[{key!r}]", key, expected)
        elif not dso.capacitors:
            expected = "is controlled, and dso_config.capacitors is false"
            yield ConfigProblem(f"dso_config.capacitor_controls[{key!r}]", key, expected)
    banks = {r.bank for r in feeder.regulators} | {r.name for r in feeder.regulators}
    for key in dso.regulators:
        if key not in banks:
            expected = f"no such regulator; expected one of {', '.join(sorted(banks)) or 'none'}"
            yield ConfigProblem(f"dso_config.regulators[{key!r}]", key, expected)


def _feeder_regulators(config: SetupConfig, feeder: Feeder) -> tuple[Regulator, ...]:
    controls = config.dso_config.regulators
    result = []
    for regulator in feeder.regulators:
        control = controls.get(regulator.name, controls.get(regulator.bank))
        update: dict[str, object] = {"control": control}
        if control is not None:
            update["tap"] = 0
        result.append(regulator.model_copy(update=update))
    return tuple(result)


def _join_problem(
    microgrid: MicrogridConfig, feeder: Feeder, dso: str, where: str
) -> ConfigProblem | None:
    key, name = f"{where}.connection_bus", microgrid.connection_bus
    bus = feeder.bus_by_name.get(_local(name, dso))
    if bus is None:
        names = [bus_name(dso, b) for b in feeder.bus_by_name]
        return ConfigProblem(key, name, _no_such_bus(name, names))
    if bus.phases != "abc":
        expected = f"carries phase {', '.join(bus.phases)} only; a microgrid needs a, b and c"
        return ConfigProblem(key, name, expected)
    primary_kv = feeder.bus_by_name[feeder.head].kv_ln * math.sqrt(3)
    kv = bus.kv_ln * math.sqrt(3)
    if abs(kv / primary_kv - 1.0) > 0.01:
        expected = (
            f"is at {kv:.2f} kV, behind a distribution transformer; a microgrid joins the feeder "
            f"at its primary voltage of {primary_kv:.1f} kV"
        )
        return ConfigProblem(key, name, expected)
    return None


def _device_problems(
    microgrid: MicrogridConfig, network: Feeder, where: str
) -> Iterable[ConfigProblem]:
    for k, entry in enumerate(microgrid.devices):
        device = entry.device_state_config
        key = f"{where}.devices[{k}].device_state_config"
        if isinstance(device, TransformerConfig) and not device.bus:
            continue  # it is at the output of its element
        bus = network.bus_by_name.get(_local(device.bus, microgrid.name))
        if bus is None:
            names = [f"Bus {b}" for b in network.bus_by_name]
            yield ConfigProblem(f"{key}.bus", device.bus, _no_such_bus(device.bus, names))
        elif missing := sorted(set(device.phases) - set(bus.phases)):
            expected = f"{device.bus} carries phases {bus.phases!r}, not {''.join(missing)!r}"
            yield ConfigProblem(f"{key}.phases", device.phases, expected)
