"""What a feeder is made of, without any solver in mind.

Each phase of a bus is a node. Impedances are in ohm, shunt admittances in siemens, nominal
voltages in kV. Loads and capacitors are amounts (positive = consumed, positive = capacitive);
only set-points and measurements follow the rule "positive = injects".
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from heron.powergrid.networks.controls import CapacitorControl, RegulatorControl

Phases = Annotated[str, StringConstraints(pattern=r"^[abc]{1,3}$")]
Matrix = tuple[tuple[float, ...], ...]
Positive = Annotated[float, Field(gt=0)]
Connection = Literal["wye-wye", "delta-delta", "delta-wye", "wye-delta"]
LoadModel = Literal["power", "current", "impedance", "cvr"]
TAP_STEP = 0.00625
"""Voltage ratio of one regulator step; 16 steps each way make 10 %."""
MAX_TAP = 16
"""Steps each way of a regulator that moves by its own control."""


class Element(BaseModel):
    """What all elements share.

    Attributes:
        name: Unique among the elements of its kind.
        area: The feeder or microgrid that it belongs to; empty in a bare feeder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(min_length=1)
    area: str = ""


class Bus(Element):
    """A place with one to three phases.

    Attributes:
        phases: Phases that exist here, sorted.
        kv_ln: Nominal voltage from line to neutral, kV: the base of its pu values.
        monitored: False for helper points (the middle of a line with a distributed load) at
            which no customer is connected, so that no voltage limit applies.
    """

    phases: Phases
    kv_ln: Positive
    monitored: bool = True


class _Branch(Element):
    from_bus: str
    to_bus: str
    phases: Phases = "abc"

    @model_validator(mode="after")
    def _phases_are_distinct(self) -> Self:
        if len(set(self.phases)) != len(self.phases):
            raise ValueError(f"phases {self.phases!r}: expected distinct ones of a, b, c")
        return self


class Line(_Branch):
    """A line, cable or switch as a pi section.

    Attributes:
        phases: Phases that it carries, in the order of its matrices.
        r_ohm: (n, n) series resistance, symmetric and never generating.
        x_ohm: (n, n) series reactance.
        b_half_s: (n, n) shunt susceptance at each end.
        switch: Whether it is a switch in the field.
        closed: Whether it conducts.
        conductor: What its phases are made of.
        ampacity_a: Current that each phase may carry; None where no rating is known.
    """

    r_ohm: Matrix
    x_ohm: Matrix
    b_half_s: Matrix
    switch: bool = False
    closed: bool = True
    conductor: str = ""
    ampacity_a: Positive | None = None

    @model_validator(mode="after")
    def _matrices_are_square(self) -> Self:
        n = len(self.phases)
        for key in ("r_ohm", "x_ohm", "b_half_s"):
            matrix: Matrix = getattr(self, key)
            if len(matrix) != n or any(len(row) != n for row in matrix):
                raise ValueError(f"{key}: expected {n} x {n} values for phases {self.phases!r}")
            if any(
                not math.isclose(matrix[j][k], matrix[k][j], rel_tol=1e-6, abs_tol=1e-9)
                for j in range(n)
                for k in range(j)
            ):
                raise ValueError(f"{key}: expected the same from phase to phase both ways")
        if np.linalg.eigvalsh(self.r_ohm)[0] < -1e-9 * max(map(max, self.r_ohm)):
            raise ValueError("r_ohm: expected a resistance that loses power, whatever flows")
        if any(self.r_ohm[k][k] == 0.0 and self.x_ohm[k][k] == 0.0 for k in range(n)):
            raise ValueError("r_ohm and x_ohm: expected an impedance on every phase")
        return self


class Transformer(_Branch):
    """A three-phase transformer.

    Attributes:
        connection: Of the winding at ``from_bus``, then of that at ``to_bus``; a wye is grounded.
            Between wye and delta the lower voltage lags by 30 degrees (Dy1, Yd1).
        kv_from: Rated line-to-line voltage at ``from_bus``, kV.
        kv_to: Rated line-to-line voltage at ``to_bus``, kV.
        kva: Rating of all three phases.
        r_pct: Series resistance on the rating's base, both windings.
        x_pct: Series reactance on the rating's base.
        tap: Fixed ratio by which the voltage at ``to_bus`` is raised.
    """

    connection: Connection = "wye-wye"
    kv_from: Positive
    kv_to: Positive
    kva: Positive
    r_pct: float = Field(ge=0)
    x_pct: Positive
    tap: float = Field(1.0, gt=0.8, lt=1.2)


class Regulator(_Branch):
    """A step-voltage regulator: one tap for all the phases that it carries.

    Attributes:
        bank: Regulators of one place, which a setup addresses together.
        kv_ln: Rated voltage of each phase, kV.
        kva: Base of the series impedance, all its phases together; not a rating.
        r_pct: Series resistance.
        x_pct: Series reactance.
        tap: Position, at most ``max_tap`` steps each way; positive raises ``to_bus``.
        control: How it moves; None for a tap that is fixed, or commanded from outside. Its first
            phase is the one measured.
        step_pu: Ratio of one step; 0.625 % unless said otherwise.
        max_tap: Steps each way.
    """

    bank: str
    kv_ln: Positive
    kva: Positive
    r_pct: float = Field(ge=0)
    x_pct: Positive
    tap: int = 0
    control: RegulatorControl | None = None
    step_pu: float = Field(TAP_STEP, gt=0.0, le=0.05)
    max_tap: int = Field(MAX_TAP, ge=1, le=32)

    @model_validator(mode="after")
    def _tap_is_within_its_range(self) -> Self:
        if abs(self.tap) > self.max_tap:
            raise ValueError(f"tap {self.tap}: expected {-self.max_tap} to {self.max_tap}")
        if self.step_pu * self.max_tap >= 0.5:
            raise ValueError(f"step_pu x max_tap = {self.step_pu * self.max_tap}: expected < 0.5")
        return self


class Capacitor(Element):
    """A wye-grounded shunt capacitor.

    Attributes:
        element_kv: Rated voltage of each phase to ground, kV.
        kvar: Total of all phases at rated voltage.
        closed: Whether it is switched in (to begin with, where it is controlled).
        control: How it switches; None for fixed.
    """

    bus: str
    phases: Phases
    element_kv: Positive
    kvar: Positive
    closed: bool = True
    control: CapacitorControl | None = None


class Load(Element):
    """A load of one element per phase (wye) or per pair of phases (delta).

    Attributes:
        phases: Wye: one element each. Delta: "ab" is one element between a and b, "abc"
            three of them.
        connection: Wye elements go to ground.
        model: How power follows voltage: constant power, current or impedance; "cvr" is P
            with the first and Q with the second power of the voltage.
        element_kv: Rated voltage across each element, kV.
        kw: Consumption of all elements together at rated voltage.
        kvar: Reactive consumption, likewise.
    """

    bus: str
    phases: Phases
    connection: Literal["wye", "delta"] = "wye"
    model: LoadModel = "power"
    element_kv: Positive
    kw: float
    kvar: float

    @model_validator(mode="after")
    def _delta_needs_two_phases(self) -> Self:
        if self.connection == "delta" and len(self.phases) < 2:
            raise ValueError(f"phases {self.phases!r}: a delta load is connected to two or three")
        return self

    @property
    def elements(self) -> tuple[str, ...]:
        """The phase or pair of phases of each element, e.g. ("a",) or ("ab", "bc", "ca")."""
        if self.connection == "wye":
            return tuple(self.phases)
        if len(self.phases) == 2:
            return (self.phases,)
        p = self.phases
        return (p[0] + p[1], p[1] + p[2], p[2] + p[0])
