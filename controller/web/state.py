"""The loop as plain data, for the page and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heron.messaging.presence import is_there
from heron.messaging.tally import Tally
from heron.messaging.wire import Telemetry
from heron.powergrid.setups import SetupConfig

POINTS = ("p_mw", "q_mvar", "v_pu", "v_min_pu", "v_max_pu", "soc")


def loop_state(
    config: SetupConfig, tally: Tally, held: Mapping[str, str], connected: bool
) -> dict[str, Any]:
    """Return what the page shows: the site's structure with the newest values."""
    clock, account = tally.clock, tally.account
    dso = config.dso_config.name
    return {
        "setup": config.name,
        "connected": connected,
        "v_limits_pu": list(config.v_limits_pu),
        "clock": None if clock is None else clock.model_dump(),
        "total": {
            "steps": tally.steps,
            "reward": tally.total.reward,
            "cost_usd": tally.total.cost_usd,
            "violation_pu": tally.total.violation_pu,
            "losses_mw": None if account is None else account.losses_mw,
            "price_usd_per_mwh": None if account is None else account.price_usd_per_mwh,
        },
        "areas": [
            _area(dso, "head", (), tally, held),
            *(
                _area(m.name, m.name, tuple(d.name for d in m.devices), tally, held)
                for m in config.microgrid_configs
            ),
        ],
        "market": None if tally.last_market is None else tally.last_market.model_dump(),
        "policies": [tally.policy_reports[a].model_dump() for a in sorted(tally.policy_reports)],
        # what is said for information only, such as a roll call, is no alarm
        "alarms": [a.model_dump() for a in tally.alarms if a.severity != "info"][-10:],
    }


def _area(
    name: str, meter: str, devices: tuple[str, ...], tally: Tally, held: Mapping[str, str]
) -> dict[str, Any]:
    account = None if tally.account is None else tally.account.agents.get(name)
    status = tally.statuses.get(name)
    return {
        "name": name,
        "mode": None if status is None else status.mode,
        "online": is_there(name, tally.statuses),
        "policy": tally.policies.get(name),
        "held": held.get(name),
        "decide_ms": tally.decide_by.get(name),
        "meter": points_of(tally.telemetry.get(meter)),
        "account": None if account is None else account.model_dump(),
        "devices": [_device(device, tally) for device in devices],
    }


def _device(name: str, tally: Tally) -> dict[str, Any]:
    status, result = tally.statuses.get(name), tally.results.get(name)
    return {
        "name": name,
        "online": is_there(name, tally.statuses),
        "mode": None if status is None else status.mode,
        "detail": "" if status is None else status.detail,
        "points": points_of(tally.telemetry.get(name)),
        "result": None if result is None else result.model_dump(),
    }


def points_of(telemetry: Telemetry | None) -> dict[str, dict[str, Any]]:
    """Return value and quality of the points that are shown."""
    if telemetry is None:
        return {}
    return {
        name: {"value": point.value, "quality": point.quality}
        for name in POINTS
        if (point := telemetry.points.get(name)) is not None
    }
