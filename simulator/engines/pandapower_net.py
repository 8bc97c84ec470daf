"""The balanced equivalent of a grid as a pandapower net.

Here, and in `simulator.engines.pandapower_engine`, signs are pandapower's: a device is a static
generator, whose positive power generates, and a load's positive power consumes.
"""

from __future__ import annotations

import math
from typing import Any

import pandapower as pp

from heron.powergrid.networks import Grid
from simulator.engines.positive_sequence import (
    banks_of,
    line_impedance,
    source_voltage,
    voltage_ratio,
)

FREQUENCY_HZ = 60.0


def pandapower_net(grid: Grid) -> Any:
    """Return the positive-sequence equivalent as a pandapower net.

    Tables are in the grid's order: buses, loads, static generators for the devices; transformers
    first and then one for each bank of regulators.
    """
    net = pp.create_empty_network(name=grid.name, f_hz=FREQUENCY_HZ, sn_mva=1.0)
    index = {b.name: k for k, b in enumerate(grid.buses)}
    kv = {b.name: b.kv_ln * math.sqrt(3) for b in grid.buses}
    for bus in grid.buses:
        pp.create_bus(net, vn_kv=kv[bus.name], name=bus.name, zone=bus.area)
    v = source_voltage(grid)
    angle = math.degrees(math.atan2(v.imag, v.real))
    pp.create_ext_grid(net, index[grid.source_bus], vm_pu=abs(v), va_degree=angle)
    for line in grid.lines:
        z, b_half = line_impedance(line)
        pp.create_line_from_parameters(
            net,
            index[line.from_bus],
            index[line.to_bus],
            length_km=1.0,
            r_ohm_per_km=z.real,
            x_ohm_per_km=z.imag,
            c_nf_per_km=2.0 * b_half / (2.0 * math.pi * FREQUENCY_HZ) * 1e9,
            max_i_ka=1.0,
            name=line.name,
            in_service=line.closed,
        )
    for t in grid.transformers:
        pp.create_transformer_from_parameters(
            net,
            index[t.from_bus],
            index[t.to_bus],
            sn_mva=t.kva / 1e3,
            vn_hv_kv=t.kv_from,
            vn_lv_kv=t.kv_to,
            vkr_percent=t.r_pct,
            vk_percent=math.hypot(t.r_pct, t.x_pct),
            pfe_kw=0.0,
            i0_percent=0.0,
            # a fixed ratio as a tap: lightsim2grid does not see it in the rated voltage
            tap_side="lv",
            tap_neutral=0,
            tap_min=0,
            tap_max=1,
            tap_step_percent=100.0 * (t.tap - 1.0),
            tap_pos=1,
            tap_changer_type="Ratio",
            name=t.name,
        )
    for bank in banks_of(grid):
        pp.create_transformer_from_parameters(
            net,
            index[bank.from_bus],
            index[bank.to_bus],
            sn_mva=3.0 * bank.phase_kva / 1e3,
            vn_hv_kv=bank.kv_ln * math.sqrt(3),
            vn_lv_kv=bank.kv_ln * math.sqrt(3),
            vkr_percent=bank.r_pct,
            vk_percent=math.hypot(bank.r_pct, bank.x_pct),
            pfe_kw=0.0,
            i0_percent=0.0,
            tap_side="lv",
            tap_neutral=0,
            tap_min=-bank.max_tap,
            tap_max=bank.max_tap,
            tap_step_percent=100.0 * bank.step_pu,
            tap_pos=0,
            tap_changer_type="Ratio",
            name=f"{bank.from_bus} to {bank.to_bus}",
        )
    for capacitor in grid.capacitors:
        pp.create_shunt(
            net,
            index[capacitor.bus],
            q_mvar=-capacitor.kvar / 1e3,
            vn_kv=capacitor.element_kv * math.sqrt(3),
            name=capacitor.name,
            in_service=capacitor.closed,
        )
    for load in grid.loads:
        exponent = {"power": (0, 0), "current": (1, 1), "impedance": (2, 2), "cvr": (1, 2)}
        p_exponent, q_exponent = exponent[load.model]
        ratio = voltage_ratio(load, kv[load.bus] / math.sqrt(3))
        pp.create_load(
            net,
            index[load.bus],
            p_mw=load.kw / 1e3 * ratio**p_exponent,
            q_mvar=load.kvar / 1e3 * ratio**q_exponent,
            const_i_p_percent=100.0 * (p_exponent == 1),
            const_z_p_percent=100.0 * (p_exponent == 2),
            const_i_q_percent=100.0 * (q_exponent == 1),
            const_z_q_percent=100.0 * (q_exponent == 2),
            name=load.name,
        )
    for device in grid.devices:
        pp.create_sgen(net, index[device.bus], p_mw=0.0, q_mvar=0.0, name=device.device_id)
    return net
