"""The loop's figures in Prometheus' text format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heron.messaging.bus import BusCounters
from heron.messaging.presence import is_there
from heron.messaging.tally import Tally

Labels = Mapping[str, str]


def prometheus(tally: Tally, held: Mapping[str, str], bus: BusCounters) -> str:
    """Return every metric: name, help, type and samples."""
    total, commands = tally.total, tally.commands
    blocks = [
        _metric("heron_steps_total", "counter", "Steps of the plant.", [({}, tally.steps)]),
        _metric("heron_cost_usd", "gauge", "Cost so far.", [({}, total.cost_usd)]),
        _metric("heron_reward", "gauge", "Reward so far.", [({}, total.reward)]),
        _metric(
            "heron_violation_pu", "gauge", "Voltage violation so far.", [({}, total.violation_pu)]
        ),
        _metric(
            "heron_commands_total",
            "counter",
            "Commands, by what became of them.",
            [
                ({"fate": "sent"}, commands.sent),
                ({"fate": "written"}, commands.written),
                ({"fate": "not_written"}, commands.not_written),
                ({"fate": "read_back_differs"}, commands.read_back_differs),
            ],
        ),
        _metric(
            "heron_coordinator_held",
            "gauge",
            "1 while a coordinator cannot decide.",
            [({"agent": a}, int(a in held)) for a in sorted({*tally.policies, *held})],
        ),
        _metric(
            "heron_agent_online",
            "gauge",
            "1 while an agent says that it is there.",
            [({"agent": a}, int(is_there(a, tally.statuses))) for a in sorted(tally.statuses)],
        ),
        _metric(
            "heron_messages_total",
            "counter",
            "Messages seen, by topic.",
            [({"topic": t}, n) for t, n in sorted(tally.messages.items())],
        ),
        _metric(
            "heron_bus_total",
            "counter",
            "What the controller's own bus did.",
            [({"what": w}, getattr(bus, w)) for w in ("published", "received", "dropped")],
        ),
        *(
            _metric(f"heron_{name}", "gauge", f"Newest {name} an agent reported.", samples)
            for name in ("p_mw", "q_mvar", "v_min_pu", "v_max_pu", "soc")
            if (samples := _points(tally, name))
        ),
    ]
    return "".join(blocks)


def _points(tally: Tally, name: str) -> list[tuple[Labels, float]]:
    found: list[tuple[Labels, float]] = []
    for agent, telemetry in sorted(tally.telemetry.items()):
        point = telemetry.points.get(name)
        if point is not None and point.value is not None and point.quality == "good":
            found.append(({"agent": agent}, point.value))
    return found


def _metric(name: str, kind: str, meaning: str, samples: Iterable[tuple[Labels, float]]) -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for labels, value in samples:
        inner = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{name}{{{inner}}} {value}" if inner else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
