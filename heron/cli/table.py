"""The live table of `heron up`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from heron.messaging.presence import is_there
from heron.messaging.tally import Tally
from heron.messaging.wire import Telemetry
from heron.powergrid.setups import SetupConfig

_START = datetime(2016, 1, 1)
"""Plant time 0."""

_MODE_STYLE: Mapping[str, str] = {
    "closed_loop": "green",
    "advisory": "cyan",
    "monitor": "cyan",
    "fallback": "yellow",
    "stopped": "red",
    "offline": "red",
}


def render(config: SetupConfig, tally: Tally) -> RenderableType:
    """Return the table, the summary above it and the last active alarm below."""
    table = Table(expand=False, pad_edge=False)
    for name in ("agent", "mode"):
        table.add_column(name, no_wrap=True)
    for name in ("P MW", "Q Mvar", "SoC %", "V low", "V high", "reward", "cycle ms"):
        table.add_column(name, justify="right", no_wrap=True)
    dso = config.dso_config.name
    table.add_row(*_area_row(dso, "head", tally))
    for microgrid in config.microgrid_configs:
        table.add_section()
        table.add_row(*_area_row(microgrid.name, microgrid.name, tally))
        for device in microgrid.devices:
            table.add_row(*_device_row(device.name, tally))
    parts: list[RenderableType] = [_headline(tally), table]
    alarm = tally.alarms[-1] if tally.alarms else None
    if alarm is not None and alarm.active:
        parts.append(Text(f"{alarm.severity}: {alarm.agent}: {alarm.text}", style="yellow"))
    return Group(*parts)


def plant_time(time_s: float) -> str:
    """Return plant time as a date and time of the data year."""
    return (_START + timedelta(seconds=round(time_s))).strftime("%a %d %b %H:%M:%S")


def _headline(tally: Tally) -> Text:
    clock, account, total = tally.clock, tally.account, tally.total
    if clock is None:
        return Text("waiting for the plant", style="dim")
    price = "" if account is None else f"   price {account.price_usd_per_mwh:.2f} $/MWh"
    step_ms = tally.step_ms.last
    return Text(
        f"{plant_time(clock.time_s)}   step {clock.step}{price}   "
        f"reward {total.reward:.1f}   cost {total.cost_usd:.1f} $   "
        f"violation {total.violation_pu:.4f} pu"
        + ("" if step_ms is None else f"   step {step_ms:.0f} ms"),
        style="bold",
    )


def _mode(agent: str, tally: Tally) -> Text:
    status = tally.statuses.get(agent)
    if status is None:
        return Text("-", style="dim")
    name = "offline" if not is_there(agent, tally.statuses) else status.mode or "online"
    return Text(name, style=_MODE_STYLE.get(name, ""))


def _area_row(area: str, meter: str, tally: Tally) -> list[Text | str]:
    part = None if tally.account is None else tally.account.agents.get(area)
    telemetry = tally.telemetry.get(meter)
    decision = tally.decide_by.get(area)
    return [
        Text(area, style="bold"),
        _mode(area, tally),
        _point(telemetry, "p_mw", 3),
        _point(telemetry, "q_mvar", 3),
        "",
        "-" if part is None else f"{part.v_min_pu:.4f}",
        "-" if part is None else f"{part.v_max_pu:.4f}",
        "-" if part is None else f"{part.reward:.2f}",
        "" if decision is None else f"{decision:.2f}",
    ]


def _device_row(device: str, tally: Tally) -> list[Text | str]:
    telemetry = tally.telemetry.get(device)
    result = tally.results.get(device)
    return [
        f"  {device}",
        _mode(device, tally),
        _point(telemetry, "p_mw", 3),
        _point(telemetry, "q_mvar", 3),
        _point(telemetry, "soc", 1, 100.0) if _has(telemetry, "soc") else "",
        _point(telemetry, "v_min_pu", 4),
        _point(telemetry, "v_max_pu", 4),
        "",
        "-" if result is None else f"{result.cycle_ms:.2f}",
    ]


def _has(telemetry: Telemetry | None, name: str) -> bool:
    return telemetry is not None and name in telemetry.points


def _point(telemetry: Telemetry | None, name: str, digits: int, factor: float = 1.0) -> Text | str:
    point = None if telemetry is None else telemetry.points.get(name)
    if point is None or point.value is None:
        return "-"
    # Adding zero after rounding: nobody wants to read -0.000.
    text = f"{round(point.value * factor, digits) + 0.0:.{digits}f}"
    return text if point.quality == "good" else Text(text, style="dim strike")
