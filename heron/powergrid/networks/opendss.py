"""A grid as an OpenDSS script, for a second opinion on it by EPRI's simulator."""

from __future__ import annotations

import cmath
import math
from collections.abc import Iterator, Mapping

from heron.powergrid.networks.elements import (
    Line,
    Load,
    Matrix,
    Regulator,
    Transformer,
)
from heron.powergrid.networks.grid import Grid

FREQUENCY_HZ = 60.0
_MODELS = {"power": 1, "impedance": 2, "cvr": 4, "current": 5}
_NODE = {"a": "1", "b": "2", "c": "3"}


def opendss_script(
    grid: Grid,
    *,
    load_scale: Mapping[str, float] | None = None,
    device_kw: Mapping[str, tuple[float, float]] | None = None,
    controls: bool = False,
) -> str:
    """Write a grid as an OpenDSS script that solves to a tight tolerance.

    Names lose their spaces: the bus ``DSO Bus 850`` becomes ``dso_bus_850``.

    Args:
        grid: The network, with its taps and source voltage.
        load_scale: Multiplier by load name; 1 where a load is not named.
        device_kw: (kW, kvar) by device id, positive = injects; written as negative loads.
        controls: Let OpenDSS move the regulators by their line-drop compensation.
    """
    scale = load_scale or {}
    lines = ["clear", *_source(grid)]
    lines += [_line(x) for x in grid.lines]
    kv = {b.name: b.kv_ln for b in grid.buses}
    lines += [_transformer(x) for x in grid.transformers]
    for regulator in grid.regulators:
        lines += _regulator(regulator, controls=controls)
    for c in grid.capacitors:
        n = len(c.phases)
        rated = c.element_kv * (math.sqrt(3) if n > 1 else 1.0)
        lines.append(
            f"new capacitor.{dss_name(c.name)} phases={n} bus1={_bus(c.bus, c.phases)} "
            f"kvar={c.kvar!r} kv={rated!r} enabled={'yes' if c.closed else 'no'}"
        )
    lines += [_load(x, scale.get(x.name, 1.0)) for x in grid.loads]
    for device in grid.devices:
        kw, kvar = (device_kw or {}).get(device.device_id, (0.0, 0.0))
        for p in device.phases:
            n = len(device.phases)
            lines.append(
                f"new load.{dss_name(device.device_id)}_{p} phases=1 bus1={_bus(device.bus, p)} "
                f"conn=wye model=1 kv={kv[device.bus]!r} "
                f"kw={-float(kw) / n!r} kvar={-float(kvar) / n!r} vminpu=0.01 vmaxpu=10"
            )
    bases = sorted({b.kv_ln * math.sqrt(3) for b in grid.buses}, reverse=True)
    mode = "static" if controls else "off"
    lines += [
        f"set voltagebases=[{' '.join(repr(x) for x in bases)}]",
        "calcvoltagebases",
        f"set controlmode={mode} maxcontroliter=300 maxiterations=1000 tolerance=1e-11",
        "solve",
    ]
    return "\n".join(lines) + "\n"


def dss_name(name: str) -> str:
    """Return the name of a bus or an element in the script."""
    return name.replace(" ", "_").lower()


def _bus(bus: str, phases: str) -> str:
    return ".".join([dss_name(bus), *(_NODE[p] for p in phases)])


def _matrix(values: Matrix, factor: float = 1.0) -> str:
    return "(" + " | ".join(" ".join(repr(x * factor) for x in row) for row in values) + ")"


def _source(grid: Grid) -> Iterator[str]:
    kv = grid.bus_by_name[grid.source_bus].kv_ln
    for k, (p, v) in enumerate(zip("abc", grid.source_v_pu, strict=True)):
        what = f"new circuit.{dss_name(grid.name)}" if k == 0 else f"new vsource.source_{p}"
        angle = math.degrees(cmath.phase(v))
        yield (
            f"{what} phases=1 bus1={_bus(grid.source_bus, p)} basekv={kv!r} pu={abs(v)!r} "
            f"angle={angle!r} z1=[1e-7, 1e-7] z0=[1e-7, 1e-7]"
        )


def _line(x: Line) -> str:
    nanofarad = 2.0 / (2.0 * math.pi * FREQUENCY_HZ) * 1e9
    return (
        f"new line.{dss_name(x.name)} phases={len(x.phases)} bus1={_bus(x.from_bus, x.phases)} "
        f"bus2={_bus(x.to_bus, x.phases)} rmatrix={_matrix(x.r_ohm)} xmatrix={_matrix(x.x_ohm)} "
        f"cmatrix={_matrix(x.b_half_s, nanofarad)} length=1 units=none "
        f"enabled={'yes' if x.closed else 'no'}"
    )


def _transformer(x: Transformer) -> str:
    first, second = x.connection.split("-")
    return (
        f"new transformer.{dss_name(x.name)} phases=3 windings=2 xhl={x.x_pct!r} "
        f"wdg=1 bus={_bus(x.from_bus, 'abc')} conn={first} kv={x.kv_from!r} kva={x.kva!r} "
        f"%r={x.r_pct / 2!r} "
        f"wdg=2 bus={_bus(x.to_bus, 'abc')} conn={second} kv={x.kv_to!r} kva={x.kva!r} "
        f"%r={x.r_pct / 2!r} tap={x.tap!r}"
    )


def _regulator(x: Regulator, *, controls: bool) -> Iterator[str]:
    n = len(x.phases)
    kv = x.kv_ln * (math.sqrt(3) if n == 3 else 1.0)
    ends = [_bus(b, x.phases) for b in (x.from_bus, x.to_bus)]
    yield (
        f"new transformer.{dss_name(x.name)} phases={n} windings=2 xhl={x.x_pct!r} "
        f"wdg=1 bus={ends[0]} conn=wye kv={kv!r} kva={x.kva!r} %r={x.r_pct / 2!r} "
        f"wdg=2 bus={ends[1]} conn=wye kv={kv!r} kva={x.kva!r} %r={x.r_pct / 2!r} "
        f"tap={1.0 + x.step_pu * x.tap!r}"
    )
    c = x.control
    if controls and c is not None:
        yield (
            f"new regcontrol.{dss_name(x.name)} transformer={dss_name(x.name)} winding=2 "
            f"vreg={c.v_set!r} band={c.bandwidth_v!r} ptratio={c.pt_ratio!r} "
            f"ctprim={c.ct_primary_a!r} r={c.r_v!r} x={c.x_v!r}"
        )


def _load(x: Load, scale: float) -> str:
    n = 3 if len(x.elements) == 3 else 1
    line_to_line = x.connection == "wye" and n == 3
    kv = x.element_kv * (math.sqrt(3) if line_to_line else 1.0)
    return (
        f"new load.{dss_name(x.name)} phases={n} bus1={_bus(x.bus, x.phases)} "
        f"conn={x.connection} model={_MODELS[x.model]} kv={kv!r} kw={x.kw * float(scale)!r} "
        f"kvar={x.kvar * float(scale)!r} vminpu=0.01 vmaxpu=10"
    )
