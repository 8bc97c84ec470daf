"""A test kit for new devices: does a device agent keep what the rest of the system relies on?

Use it in a test of your own::

    from heron.testing.device_kit import check_device

    def test_my_device_keeps_the_contract():
        check_device(Electrolyser, {"bus": "Bus 633", "p_rated_mw": 0.5})

Every check returns what is wrong in words; `check_device` runs all of them and raises with the
whole list. With a plant (``run=``) the kit also checks the energy balance of the physics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heron.core import COORDINATOR_LEVEL, FIELD_LEVEL, SYSTEM_LEVEL, VISIBILITIES
from heron.powergrid.agents import DEVICE_REGISTRY, DeviceAgent
from heron.powergrid.envelope import admit
from heron.powergrid.quantities import DeviceReading, Setpoint
from heron.powergrid.registers import Words, site_plan
from heron.powergrid.setups import SetupConfig

Run = Callable[[Setpoint, float], DeviceReading]
"""Holds a set-point for so many seconds in a plant and returns what the device shows then."""

_Vector = NDArray[np.float64]

DEVICE_ID = "device_under_test"
N_ACTIONS = 50
STEPS_S = (1.0, 60.0, 900.0, 3600.0)


class DeviceKitError(AssertionError):
    """A device breaks the contract; ``problems`` says where."""

    def __init__(self, device: str, problems: list[str]) -> None:
        super().__init__("\n".join([f"{device}:", *(f"- {p}" for p in problems)]))
        self.problems = tuple(problems)


def check_device(
    kind: str | type[DeviceAgent],
    config: Mapping[str, Any],
    *,
    run: Run | None = None,
    seed: int = 0,
) -> None:
    """Check spaces, envelope, visibility, energy balance and registers of a device.

    Args:
        kind: The agent's class, or its name in the registry.
        config: Its ``device_state_config``.
        run: A plant with this one device, to check the energy balance of the physics.
        seed: Of the random actions.

    Raises:
        DeviceKitError: With everything that is wrong.
        ConfigError: The configuration is refused, or the name is not known.
    """
    agent_class = DEVICE_REGISTRY.find(kind) if isinstance(kind, str) else kind
    rng = np.random.default_rng(seed)
    agent = agent_class(agent_id=DEVICE_ID, device_state_config=config)
    problems = [
        *spaces_problems(agent, rng),
        *envelope_problems(agent, rng),
        *visibility_problems(agent),
        *register_problems(agent_class, config),
    ]
    if not problems:  # what does not keep to the envelope cannot be asked for its energy
        problems += energy_problems(agent, rng)
        if run is not None:
            problems += plant_problems(agent, run, rng)
    if problems:
        raise DeviceKitError(agent_class.__qualname__, problems)


def plausible_reading(agent: DeviceAgent, rng: np.random.Generator) -> DeviceReading:
    """Return a reading that the device could show: within its limits, at healthy voltage."""
    limits = agent.limits
    v = float(rng.uniform(0.97, 1.03))
    soc = None
    if limits.storage is not None:
        soc = float(rng.uniform(limits.storage.soc_min, limits.storage.soc_max))
    tap = None
    if limits.tap is not None:
        tap = int(rng.integers(limits.tap.tap_min, limits.tap.tap_max, endpoint=True))
    return DeviceReading(
        p_mw=float(rng.uniform(limits.p_min_mw, limits.p_max_mw)),
        q_mvar=float(rng.uniform(limits.q_min_mvar, limits.q_max_mvar)),
        v_pu=v,
        v_min_pu=v - 0.01,
        v_max_pu=v + 0.01,
        soc=soc,
        tap=tap,
    )


def spaces_problems(agent: DeviceAgent, rng: np.random.Generator) -> list[str]:
    """Return where action and observation do not fit their spaces."""
    problems = []
    size, specs = agent.action.size, agent.setpoint_specs()
    if len(specs) != size:
        problems.append(f"setpoint_specs() has {len(specs)} entries, the action {size} numbers")
    if not np.isfinite([*agent.action.low, *agent.action.high]).all():
        problems.append("the action's range is not finite")
    first = agent.state.vector()
    for _ in range(5):
        agent.on_reading(plausible_reading(agent, rng))
        vector = agent.state.vector()
        if vector.shape != first.shape:
            problems.append(f"the observation changes its size: {first.shape}, {vector.shape}")
        if not np.isfinite(vector).all():
            problems.append(f"the observation is not finite: {vector.tolist()}")
    for bad in (np.full(size, np.nan), np.zeros(size + 1)):
        before = agent.setpoint
        try:
            agent.apply_action(bad)
        except ValueError:
            pass
        except AttributeError as error:
            problems.append(f"the action {bad.tolist()} passes by the envelope: {error}")
        else:
            problems.append(f"the action {bad.tolist()} is not refused with ValueError")
        if agent.setpoint != before:
            problems.append(f"the refused action {bad.tolist()} changed the set-point")
    agent.reset()
    if not np.array_equal(agent.state.vector(), first):
        problems.append("reset() does not return the features to their start")
    return problems


def envelope_problems(agent: DeviceAgent, rng: np.random.Generator) -> list[str]:
    """Return actions after which the set-point is not one that the envelope admits.

    Each is given in every way in which a device is told something: by itself, by its
    coordinator, as its part of a joint action, and as a set-point from a market.
    """
    problems = []
    for action in _actions(agent, rng):
        for way, tell in _ways(agent, action, rng):
            agent.on_reading(plausible_reading(agent, rng))
            previous, agent.terminals.result = agent.setpoint, None
            where = f"{way}: action {action.tolist()}"
            try:
                tell()
            except AttributeError as error:
                problems.append(f"{where} passes by the envelope: {error}")
            problems += [f"{where} {fault}" for fault in _beyond(agent, previous)]
            agent.update_cost_safety()
            if not (np.isfinite(agent.cost) and np.isfinite(agent.safety)):
                problems.append(f"cost {agent.cost} or safety {agent.safety} is not finite")
    return problems[:5]


def _ways(
    agent: DeviceAgent, action: _Vector, rng: np.random.Generator
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the ways in which a device is told something."""
    yield "apply_action", lambda: agent.apply_action(action)
    yield "take_action", lambda: agent.take_action(action)
    far = 2.0 * max(abs(agent.limits.p_min_mw), abs(agent.limits.p_max_mw), 1.0)
    wanted = Setpoint(float(rng.uniform(-far, far)), tap=agent.setpoint.tap)
    yield "command", lambda: agent.command(wanted)


def _beyond(agent: DeviceAgent, previous: Setpoint) -> Iterator[str]:
    """Yield how a set-point is not what the envelope let pass."""
    now, limits, result = agent.setpoint, agent.limits, agent.result
    if result is None:
        specs = agent.setpoint_specs() if agent.action.dim_c else ()
        if now != previous or any(s.quantity in ("p_mw", "q_mvar", "tap") for s in specs):
            yield "passes by the envelope"
        return
    passed = admit(agent.proposal, limits, agent.reading, previous, agent.dt_s).applied
    if now != (previous if passed is None else passed):
        yield f"leads to {now}, where the envelope lets {passed} pass"
    lets = admit(agent.proposal, limits, agent.reading, now, agent.dt_s).applied
    if (said := agent.admit(agent.proposal).applied) != lets:
        yield f"admit() says {said}, where the envelope lets {lets} pass"
    if now != previous and not limits.p_min_mw <= now.p_mw <= limits.p_max_mw:
        yield f"leads to {now.p_mw} MW, outside the limits"
    tap = now.tap
    if tap is not None and not (limits.tap and limits.tap.tap_min <= tap <= limits.tap.tap_max):
        yield f"leads to tap {tap}, outside the limits"


def visibility_problems(agent: DeviceAgent) -> list[str]:
    """Return features that its owner or its coordinator cannot see, or that strangers can."""
    problems = []
    seen_above = 0
    for name, feature in agent.state.items():
        wrong = set(feature.visibility) - set(VISIBILITIES)
        if wrong:
            problems.append(f"{name}: unknown visibility {sorted(wrong)}")

        def sees(who: str, level: int, feature: Any = feature) -> bool:
            return bool(feature.is_observable_by(who, level, DEVICE_ID, FIELD_LEVEL))

        if not (sees(DEVICE_ID, FIELD_LEVEL) or sees("dso", SYSTEM_LEVEL)):
            problems.append(f"{name}: nobody who is responsible for the device sees it")
        if "public" not in feature.visibility and sees(f"{DEVICE_ID}0", FIELD_LEVEL):
            problems.append(f"{name}: a device with a longer name sees it")
        seen_above += sees("coordinator", COORDINATOR_LEVEL)
    if not seen_above:
        problems.append("its coordinator sees none of its features")
    return problems


def energy_problems(agent: DeviceAgent, rng: np.random.Generator) -> list[str]:
    """Return set-points that would carry a store out of its window."""
    store = agent.limits.storage
    if store is None:
        return []
    problems = []
    for dt_s in STEPS_S:
        for action in _actions(agent, rng, 20):
            reading = plausible_reading(agent, rng)
            agent.reset()
            agent.on_reading(reading)
            agent.dt_s = dt_s
            agent.apply_action(action)
            soc = store.soc_after(reading.soc or 0.0, agent.setpoint.p_mw, dt_s)
            if not store.soc_min - 1e-9 <= soc <= store.soc_max + 1e-9:
                problems.append(
                    f"{agent.setpoint.p_mw:.6g} MW for {dt_s:g} s from {reading.soc:.4f} leads to "
                    f"a state of charge of {soc:.4f}, outside its window"
                )
    return problems[:5]


def register_problems(agent_class: type[DeviceAgent], config: Mapping[str, Any]) -> list[str]:
    """Return what a reading or a set-point loses on its way through the registers."""
    name = _type_name(agent_class)
    if name is None:
        return [f"{agent_class.__qualname__} is not registered: use @register_device"]
    entry = {"type": name, "name": DEVICE_ID, "device_state_config": dict(config)}
    microgrid = {"name": "MG1", "connection_bus": "DSO Bus 850", "devices": [entry]}
    setup = SetupConfig.model_validate({"microgrid_configs": [microgrid]})
    table = site_plan(setup).devices[DEVICE_ID].table
    agent = agent_class(agent_id=DEVICE_ID, device_state_config=config)
    rng = np.random.default_rng(0)
    problems = []
    for _ in range(5):
        reading = plausible_reading(agent, rng)
        if reading.soc is not None and not table.stores:
            problems.append("it stores energy, and its registers hold no state of charge")
            reading = replace(reading, soc=None)
        words = Words(
            (table.registers[point].address, table.registers[point].encode(value))
            for point, value in table.reading_values(reading).items()
        )
        for point, got in table.decode_reading(words).items():
            sent = float(getattr(reading, point))
            if got is None or abs(got - sent) > table.resolution(point) * 1.001:
                problems.append(f"register {point}: {sent} comes back as {got}")
        p_mw = max(0.0, reading.p_mw) if _only_gives(agent) else reading.p_mw
        asked = Setpoint(p_mw, tap=reading.tap)
        held = table.quantise(asked)
        if held.tap != asked.tap:
            problems.append(f"set-point tap {asked.tap} is held as {held.tap}")
        if abs(held.p_mw - asked.p_mw) > table.resolution("p_set") * 1.001:
            problems.append(f"set-point {asked.p_mw} MW is held as {held.p_mw} MW")
    return sorted(set(problems))[:5]


def plant_problems(agent: DeviceAgent, run: Run, rng: np.random.Generator) -> list[str]:
    """Return steps of a plant in which power, energy and limits do not agree."""
    problems = []
    limits, store = agent.limits, agent.limits.storage
    before: DeviceReading | None = None
    for action in _actions(agent, rng):
        dt_s = float(rng.choice(STEPS_S))
        agent.dt_s = dt_s
        if before is not None:
            agent.on_reading(before)
            agent.apply_action(action)
        after = run(agent.setpoint, dt_s)
        p = after.p_mw
        if not limits.p_min_mw - 1e-9 <= p <= limits.p_max_mw + 1e-9:
            problems.append(f"the plant lets it run at {p} MW, outside its limits")
        if after.available_mw is not None and p > max(0.0, after.available_mw) + 1e-9:
            problems.append(f"it injects {p} MW of {after.available_mw} MW that are there")
        both = before is not None and before.connected and after.connected
        if store is not None and both and before is not None:
            expected = store.soc_after(before.soc or 0.0, p, dt_s)
            if after.soc is None or abs(after.soc - expected) > 1e-9:
                problems.append(
                    f"{p:.6g} MW for {dt_s:g} s should lead from {before.soc} to a state of "
                    f"charge of {expected}, the plant shows {after.soc}"
                )
        before = after
    return problems[:5]


def _actions(agent: DeviceAgent, rng: np.random.Generator, n: int = N_ACTIONS) -> Iterator[_Vector]:
    """Yield the corners first, then random actions, with categories where there are some."""
    action = agent.action
    for k in range(n):
        if k < 2:
            c = action.low if k == 0 else action.high
        else:
            c = rng.uniform(action.low, action.high)
        d = [rng.integers(0, cats) for cats in action.ncats]
        yield np.concatenate([c, np.array(d, dtype=np.float64)])


def _only_gives(agent: DeviceAgent) -> bool:
    return agent.limits.p_min_mw >= 0.0


def _type_name(agent_class: type[DeviceAgent]) -> str | None:
    for name, known in DEVICE_REGISTRY.items():
        if known is agent_class:
            return name
    return None


__all__ = ["DeviceKitError", "Run", "check_device", "plausible_reading"]
