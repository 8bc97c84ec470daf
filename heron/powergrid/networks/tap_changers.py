"""Tap changers that devices command: found by name, and put into a composed network.

A regulator is commanded in place of its own control. A transformer gets its tap changer as an
ideal three-phase regulator behind it, on the side of ``to_bus``: one more, unmonitored bus.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from heron.errors import ConfigProblem
from heron.powergrid.device_configs import TransformerConfig
from heron.powergrid.networks.elements import Bus, Regulator, Transformer
from heron.powergrid.networks.grid import TapChanger

SERIES_X_PCT = 0.01
"""Reactance of the ideal tap changer: what the published regulators have."""

MAX_REACH = 0.3
"""Largest change of voltage that a tap changer may make."""


@dataclass(frozen=True, slots=True)
class Commander:
    """A device that commands a tap.

    Attributes:
        area: Its microgrid.
        device_id: Its name.
        config: What it says of itself.
        where: Its place in the setup, for messages.
    """

    area: str
    device_id: str
    config: TransformerConfig
    where: str


@dataclass(frozen=True, slots=True)
class Commanded:
    """A network's parts once its tap changers are in it."""

    buses: tuple[Bus, ...]
    transformers: tuple[Transformer, ...]
    regulators: tuple[Regulator, ...]
    tap_changers: tuple[TapChanger, ...]
    problems: tuple[ConfigProblem, ...]


def commanded(
    commanders: Iterable[Commander],
    buses: Sequence[Bus],
    transformers: Sequence[Transformer],
    regulators: Sequence[Regulator],
) -> Commanded:
    """Give each commander its tap changer.

    ``element`` is a name within the commander's own microgrid (``head`` is its transformer
    towards the feeder), or a full name with its area (``DSO reg1``). A commanded tap starts where
    its configuration says.
    """
    places, units, taps = list(buses), list(transformers), list(regulators)
    changers: list[TapChanger] = []
    problems: list[ConfigProblem] = []
    taken: dict[str, str] = {}
    for commander in commanders:
        config, key = commander.config, f"{commander.where}.element"
        found = _find(commander, units, taps)
        if found is None:
            expected = f"no such transformer or regulator; expected one of {_names(units, taps)}"
            problems.append(ConfigProblem(key, config.element, expected))
            continue
        element, members = found
        if element in taken:
            expected = f"is commanded by {taken[element]} already"
            problems.append(ConfigProblem(key, config.element, expected))
            continue
        taken[element] = commander.device_id
        refusal = _refusal(config, element, units, [taps[k] for k in members], commander.where)
        if refusal is not None:
            problems.append(refusal)
            continue
        if not members:
            members = [len(taps)]
            _insert(element, config, places, units, taps)
        update = {
            "tap": config.start_tap,
            "step_pu": config.tap_step_pu,
            "max_tap": max(abs(config.tap_min), abs(config.tap_max), 1),
        }
        for k in members:
            taps[k] = taps[k].model_copy(update=update)
        limits = config.tap_min, config.tap_max
        changers.append(TapChanger(commander.device_id, element, tuple(members), *limits))
    return Commanded(tuple(places), tuple(units), tuple(taps), tuple(changers), tuple(problems))


def _bank(regulator: Regulator) -> str:
    return f"{regulator.area} {regulator.bank}"


def _find(
    commander: Commander, transformers: Sequence[Transformer], regulators: Sequence[Regulator]
) -> tuple[str, list[int]] | None:
    """Return the full name of what is commanded, and the regulators that make it up."""
    for name in (f"{commander.area} {commander.config.element}", commander.config.element):
        for pick in (lambda r: r.name, _bank):
            members = [k for k, r in enumerate(regulators) if pick(r) == name]
            if members:
                return name, members
        if any(t.name == name for t in transformers):
            return name, []
    return None


def _names(transformers: Iterable[Transformer], regulators: Iterable[Regulator]) -> str:
    return ", ".join(dict.fromkeys([*(t.name for t in transformers), *map(_bank, regulators)]))


def _refusal(
    config: TransformerConfig,
    element: str,
    transformers: Iterable[Transformer],
    members: Iterable[Regulator],
    where: str,
) -> ConfigProblem | None:
    if config.tap_min > config.tap_max:
        expected = f"expected at most tap_max {config.tap_max}"
        return ConfigProblem(f"{where}.tap_min", config.tap_min, expected)
    most = max(abs(config.tap_min), abs(config.tap_max))
    if config.tap_step_pu * most > 0.3:
        expected = (
            f"expected a range of at most 30 %; {most} steps make {config.tap_step_pu * most}"
        )
        return ConfigProblem(f"{where}.tap_step_pu", config.tap_step_pu, expected)
    if any(r.control is not None for r in members):
        expected = "moves by its own control; take it out of dso_config.regulators"
        return ConfigProblem(f"{where}.element", config.element, expected)
    for t in transformers:
        if t.name == element and t.connection not in GROUNDED_OUTPUT:
            expected = f"is {t.connection}: a tap changer needs a grounded wye at its output"
            return ConfigProblem(f"{where}.element", config.element, expected)
    return None


GROUNDED_OUTPUT = frozenset({"wye-wye", "delta-wye"})
"""Connections whose output has a neutral, from which the tap changer's ratio counts."""


def _insert(
    element: str,
    config: TransformerConfig,
    buses: list[Bus],
    transformers: list[Transformer],
    regulators: list[Regulator],
) -> None:
    """Put a tap changer between a transformer and its output."""
    at = next(k for k, t in enumerate(transformers) if t.name == element)
    unit = transformers[at]
    output = next(b for b in buses if b.name == unit.to_bus)
    inner = output.model_copy(
        update={"name": f"{unit.name} tap changer", "phases": "abc", "monitored": False}
    )
    buses.append(inner)
    transformers[at] = unit.model_copy(update={"to_bus": inner.name})
    regulators.append(
        Regulator(
            name=inner.name,
            area=unit.area,
            from_bus=inner.name,
            to_bus=unit.to_bus,
            bank=unit.name.removeprefix(f"{unit.area} "),
            kv_ln=output.kv_ln,
            kva=unit.kva,
            r_pct=0.0,
            x_pct=SERIES_X_PCT,
        )
    )
