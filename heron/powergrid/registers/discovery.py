"""Find out what a SunSpec device has: walk its models, and describe it as a custom map.

Pure but for the reading, which is the caller's: the walk works over any transport.

Source: SunSpec Device Information Model Specification 1.1, "Model discovery".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from heron.errors import ConfigError
from heron.powergrid.registers.sunspec import (
    BASE_ADDRESSES,
    END_MODEL_ID,
    HEADER_REGISTERS,
    MARKER,
    ModelChoice,
    PlacedModel,
    SunSpecLayout,
    definition,
    place,
)
from heron.powergrid.registers.table import MAX_READ_REGISTERS, Register, RegisterMap, Words

Read = Callable[[int, int], Awaitable[Sequence[int] | bytes | None]]
"""Reads ``count`` holding registers from an address; None where the device refuses."""
_MOST_MODELS = 64
_MOST_REPEATS = 256


@dataclass(frozen=True, slots=True)
class UnknownModel:
    """A model whose definition does not ship: skipped by its length."""

    model_id: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Discovered:
    """What a device has.

    Attributes:
        layout: The known models at their addresses, with the device's own scale factors.
        unknown: The others.
        words: Everything that was read on the way.
        complete: Whether the walk came to the end model.
    """

    layout: SunSpecLayout
    unknown: tuple[UnknownModel, ...]
    words: Words
    complete: bool


async def discover(
    read: Read, bases: Sequence[int] = BASE_ADDRESSES, most_registers: int = MAX_READ_REGISTERS
) -> Discovered | None:
    """Walk the models of a device; None when there is no SunSpec marker.

    A model that is shorter than its definition (an earlier version) keeps the points that fit.

    Args:
        read: Reads holding registers.
        bases: Where the marker may stand.
        most_registers: Largest read that the device answers.
    """
    for base in bases:
        marker = _bytes(await read(base, 2))
        if marker == MARKER:
            return await _walk(read, base, most_registers)
    return None


async def _walk(read: Read, base: int, most: int) -> Discovered:
    words = Words()
    known: list[PlacedModel] = []
    unknown: list[UnknownModel] = []
    address, complete = base + 2, False
    for _ in range(_MOST_MODELS):
        head = _bytes(await read(address, HEADER_REGISTERS))
        if head is None or len(head) != 2 * HEADER_REGISTERS:
            break
        model_id = int.from_bytes(head[:2], "big")
        count = HEADER_REGISTERS + int.from_bytes(head[2:], "big")
        if model_id == END_MODEL_ID:
            complete = True
            break
        if address + count > 0x10000:
            break
        if not await _read_model(read, words, address, count, most):
            break
        try:
            definition(model_id)
        except ConfigError:
            unknown.append(UnknownModel(model_id, address, count))
        else:
            known.append(_placed(model_id, address, count, words))
        address += count
    registers = RegisterMap(_once(known)).with_scale_factors(words)
    by_name = dict(registers)
    models = tuple(
        PlacedModel(m.model_id, m.address, m.count, tuple(by_name[r.name] for r in m.registers))
        for m in known
    )
    return Discovered(SunSpecLayout(base, models, registers), tuple(unknown), words, complete)


async def _read_model(read: Read, words: Words, address: int, count: int, most: int) -> bool:
    data = b""
    for start in range(address, address + count, most):
        part = _bytes(await read(start, min(most, address + count - start)))
        if part is None:
            return False
        data += part
    words.add(address, data)
    return len(data) == 2 * count


def _placed(model_id: int, address: int, count: int, words: Words) -> PlacedModel:
    """Lay a model out, with its groups repeated as often as the device says."""
    group = definition(model_id)
    root = place(ModelChoice(model_id), address)
    repeats: dict[str, int] = {}
    fixed = sum(point["size"] for point in group["points"])
    waiting = list(group.get("groups", ()))
    while waiting:
        inner = waiting.pop()
        times = inner.get("count", 1)
        if isinstance(times, str):
            register = next((r for r in root.registers if r.name == f"{model_id}.{times}"), None)
            data = None if register is None else words.bytes_at(register.address, register.count)
            value = None if register is None or data is None else register.decode(data)
            known = int(value) if isinstance(value, (int, float)) else 0
            repeats[inner["name"]] = min(known, _MOST_REPEATS)
        elif times == 0:
            size = sum(point["size"] for point in inner["points"])
            repeats[inner["name"]] = max(0, count - fixed) // size
        waiting.extend(inner.get("groups", ()))
    full = place(ModelChoice(model_id, repeats), address)
    fitting = tuple(r for r in full.registers if r.end <= address + count)
    return PlacedModel(model_id, address, count, fitting)


def _once(models: Sequence[PlacedModel]) -> list[Register]:
    """Return all points once: of a model that stands twice, the first one counts."""
    seen: set[str] = set()
    registers: list[Register] = []
    for model in models:
        for register in model.registers:
            if register.name not in seen:
                seen.add(register.name)
                registers.append(register)
    return registers


def _bytes(answer: Sequence[int] | bytes | None) -> bytes | None:
    if answer is None or isinstance(answer, bytes):
        return answer
    return b"".join(word.to_bytes(2, "big") for word in answer)


# --- a ready map ---

_WATTS_TO_MW = 1e-6


def describe(found: Discovered, name: str) -> dict[str, object]:
    """Return a custom map of a device, to be written as YAML and read by `parse_map`.

    Measurements come from 701 and 713, else from 103 or 113 with 124 or 802; the command from 704,
    else from the ceiling of 123. Storage is commanded by ``WSet``, anything else by the ceiling.
    """
    return _Describer(found).map(name)


class _Describer:
    def __init__(self, found: Discovered) -> None:
        self.registers = found.layout.registers
        self.words = found.words
        self.points: dict[str, dict[str, object]] = {}

    def map(self, name: str) -> dict[str, object]:
        ac = next((m for m in (701, 103, 113) if f"{m}.W" in self.registers), None)
        if ac is not None:
            self._measurements(ac)
        for point in ("713.SoC", "802.SoC", "124.ChaState"):
            if self._has(point):
                self._add("soc", point, scale=0.01)
                break
        self._command()
        return {"name": name, "points": self.points}

    def _number(self, point: str) -> float | None:
        return self.registers.number(self.words, point) if point in self.registers else None

    def _has(self, point: str) -> bool:
        return self._number(point) is not None

    def _add(
        self,
        name: str,
        point: str,
        *,
        scale: float = 1.0,
        command: bool = False,
        **more: object,
    ) -> None:
        """Add a point; scale factors never change in SunSpec, so they go into the scale."""
        register = self.registers[point]
        entry: dict[str, object] = {"address": register.address, "type": str(register.type)}
        scale = float(f"{scale * 10.0**register.exponent:.12g}")
        if scale != 1.0:
            entry["scale"] = scale
        if command:
            entry["access"] = "RW"
        self.points[name] = {**entry, **more}

    def _measurements(self, model: int) -> None:
        var = {701: "Var", 103: "VAr", 113: "VAr"}[model]
        self._add("p_mw", f"{model}.W", scale=_WATTS_TO_MW, unit="MW")
        if self._has(f"{model}.{var}"):
            self._add("q_mvar", f"{model}.{var}", scale=_WATTS_TO_MW, unit="Mvar")
        nominal = self._number("702.VNom") or self._number("121.VRef")
        line = {701: "701.LLV", 103: "103.PPVphAB", 113: "113.PPVphAB"}[model]
        if nominal and self._has(line):
            self._add("v_pu", line, scale=1.0 / nominal)
        elif nominal and self._has(f"{model}.PhVphA"):
            self._add("v_pu", f"{model}.PhVphA", scale=3.0**0.5 / nominal)
        if self._has("701.ConnSt"):
            self._add("connected", "701.ConnSt")

    def _command(self) -> None:
        stores = "soc" in self.points
        w_max = self._number("702.WMax") or self._number("702.WMaxRtg") or self._number("121.WMax")
        if "704.WSet" in self.registers and (stores or not w_max):
            self._set_point()
        elif w_max and "704.WMaxLimPct" in self.registers:
            self._ceiling("704.WMaxLimPct", "704.WMaxLimPctEna", "704.WMaxLimPctRvrtTms", w_max)
        elif w_max and "123.WMaxLimPct" in self.registers:
            self._ceiling("123.WMaxLimPct", "123.WMaxLim_Ena", "123.WMaxLimPct_RvrtTms", w_max)
        if self._has("704.VarSet"):
            self._add("q_enable", "704.VarSetEna", command=True, constant=1)
            self._add("q_mode", "704.VarSetMod", command=True, constant=4)
            self._add("q_set_mvar", "704.VarSet", scale=_WATTS_TO_MW, command=True)
            self._add("q_reversion_mvar", "704.VarSetRvrt", scale=_WATTS_TO_MW, command=True)
            self._add("q_reversion_s", "704.VarSetRvrtTms", command=True)
        if "715.ControllerHb" in self.registers:
            self._add("heartbeat", "715.ControllerHb", command=True)

    def _set_point(self) -> None:
        self._add("enable", "704.WSetEna", command=True)
        self._add("p_mode", "704.WSetMod", command=True, constant=1)
        self._add("p_set_mw", "704.WSet", scale=_WATTS_TO_MW, command=True)
        self._add("p_reversion_mw", "704.WSetRvrt", scale=_WATTS_TO_MW, command=True)
        self._add("reversion_s", "704.WSetRvrtTms", command=True)

    def _ceiling(self, percent: str, enable: str, timeout: str, w_max: float) -> None:
        share = w_max * _WATTS_TO_MW / 100.0
        self._add("enable", enable, command=True)
        self._add("p_set_mw", percent, scale=share, command=True)
        if f"{percent}Rvrt" in self.registers:
            self._add("p_reversion_mw", f"{percent}Rvrt", scale=share, command=True)
        if timeout in self.registers:
            self._add("reversion_s", timeout, command=True)


def summary(found: Discovered) -> Mapping[str, object]:
    """Return what was found as plain data, for people and for JSON."""
    registers = found.layout.registers
    identity = {"manufacturer": "1.Mn", "model": "1.Md", "serial": "1.SN", "version": "1.Vr"}
    return {
        **{
            key: registers.read(found.words, point) if point in registers else None
            for key, point in identity.items()
        },
        "base": found.layout.base,
        "models": [{"id": m.model_id, "address": m.address} for m in found.layout.models],
        "unknown": [{"id": m.model_id, "address": m.address} for m in found.unknown],
        "complete": found.complete,
    }
