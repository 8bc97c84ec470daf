"""The arrays that the compiled kernels work on.

Nodes are in elimination order ("slots"): n free nodes, then the source nodes, and last a ground
of 0 V. Pointers and indices are those of compressed rows.
"""

from __future__ import annotations

from typing import NamedTuple

from simulator.engines.base import ComplexArray, FloatArray, IntArray


class Network(NamedTuple):
    """What does not change between solves.

    Attributes:
        n_silent: Free nodes that no iteration needs; they come first.
        n_fixed: Free nodes whose rows of the factors no moving regulator touches; they come
            first, too, the silent ones among them.
        l_ptr: Pattern of the strictly lower factor.
        l_first: (n,) where the columns of the silent nodes end in each of its rows.
        l_split: (n,) where the columns of the fixed nodes end in each of its rows.
        l_idx: Its columns, ascending.
        u_ptr: Pattern of the strictly upper factor.
        u_idx: Its columns, ascending.
        matrix: (lower, upper, n) one after the other: the admittances without any regulator.
        rhs: (n,) current that the source drives, without regulators.
        driven: Rows into which it does, regulators included.
        v_source: Source voltages.
        n_still: Phases of regulators that nothing moves; they come first in the next five.
        reg: (phases, 7) owner, input slot, output slot, places of its four entries in
            ``matrix`` (-1 where a source node is involved).
        reg_y: (phases,) admittance at neutral.
        reg_step: (phases,) ratio of one step.
        reg_rows_ptr: Rows that have to be factored again when this regulator moves.
        reg_rows: Those rows.
        control: (controlled, 4) owner, measured phase, regulators that move together, steps
            each way.
        settings: (controlled, 6) wanted voltage and half the bandwidth in V, V per pu, the
            compensator's resistance and reactance in V per pu of current, delay in s.
        cap: (capacitors, 3) slots that are measured.
        cap_settings: (capacitors, 4) voltage to switch on, to switch off, V per pu, delay in s;
            on and off are NaN where nothing is controlled.
        shunt: (m, 4) first slot, second slot, load model, owner; loads first, then devices,
            then capacitors.
        shunt_s: (m,) consumption per unit of the owner's scale.
        shunt_inv_v: (m,) base voltage over rated voltage.
        terminal: (t + 1, 2) slot and first entry of its row; the last row only ends the others.
        terminal_idx: Slots of the entries.
        terminal_y: Admittances of the entries.
        terminal_rated: (t,) one over the rated current.
        counts: Shunts of loads; shunts of loads and devices; terminals of the source; terminals
            of each branch; phases that one node stands for.
        node_slot: (nodes,) slot of each node of the grid.
        device_slot: (devices, 3) slots of the phases of each device; -1 where it has none.
        pcc_slot: (microgrids, 3) slots of each connection bus.
    """

    n_silent: int
    n_fixed: int
    l_ptr: IntArray
    l_first: IntArray
    l_split: IntArray
    l_idx: IntArray
    u_ptr: IntArray
    u_idx: IntArray
    matrix: ComplexArray
    rhs: ComplexArray
    driven: IntArray
    v_source: ComplexArray
    n_still: int
    reg: IntArray
    reg_y: ComplexArray
    reg_step: FloatArray
    reg_rows_ptr: IntArray
    reg_rows: IntArray
    control: IntArray
    settings: FloatArray
    cap: IntArray
    cap_settings: FloatArray
    shunt: IntArray
    shunt_s: ComplexArray
    shunt_inv_v: FloatArray
    terminal: IntArray
    terminal_idx: IntArray
    terminal_y: ComplexArray
    terminal_rated: FloatArray
    counts: IntArray
    node_slot: IntArray
    device_slot: IntArray
    pcc_slot: IntArray


class Work(NamedTuple):
    """What a solve overwrites; one per engine, so that an engine has one owner.

    Attributes:
        taps: Positions that the factors stand for.
        dirty: (n,) rows to be factored again.
        base: ``Network.matrix`` with the still regulators in it: the factors and one over the
            pivots of the fixed rows; in the other rows the matrix from which the fixed nodes are
            eliminated.
        base_rhs: (n,) ``Network.rhs`` with the still regulators in it.
        a: ``base`` with all regulators in it.
        l: Values of the lower factor.
        u: Values of the upper factor.
        inv_d: (n,) one over the pivots.
        rhs: (n,) current that the source drives.
        b: (slots,) right-hand side, then solution.
        row: (n,) one row while it is factored.
        s: (m,) consumption of each shunt at rated voltage.
        switched: (capacitors,) whether it has switched in this step.
        errors: (controlled,) by how many volts each regulator's voltage is too low.
    """

    taps: IntArray
    dirty: IntArray
    base: ComplexArray
    base_rhs: ComplexArray
    a: ComplexArray
    l: ComplexArray  # noqa: E741
    u: ComplexArray
    inv_d: ComplexArray
    rhs: ComplexArray
    b: ComplexArray
    row: ComplexArray
    s: ComplexArray
    switched: IntArray
    errors: FloatArray


class Case(NamedTuple):
    """One scenario: what goes in, and what a solve changes and fills.

    Attributes:
        load_scale: (loads,) multipliers.
        p_mw: (devices,) positive = injects.
        q_mvar: (devices,) positive = injects.
        taps: (regulators,) positions; changed.
        capacitors: (capacitors,) 1 = switched in; changed.
        waited_s: (controlled + capacitors,) how long each control has been out of its band;
            changed.
        v: (slots,) warm start, or NaN for a flat one; changed to the solution.
        v_pu: (nodes,) filled with the voltages.
        out: Filled with the figures in the order of `kernels.measure`.
    """

    load_scale: FloatArray
    p_mw: FloatArray
    q_mvar: FloatArray
    taps: IntArray
    capacitors: IntArray
    waited_s: FloatArray
    v: ComplexArray
    v_pu: ComplexArray
    out: FloatArray
