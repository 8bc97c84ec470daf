"""`heron mode` and `heron limits`: what operators ask of agents that run, over the broker.

Exit codes: 0 when it was done by all who were asked, 1 when somebody refused.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar, get_args

from heron.cli.numbers import at_least, more_than
from heron.errors import HeronError
from heron.messaging.bus import Bus
from heron.messaging.observer import Observer
from heron.messaging.presence import is_there, observed
from heron.messaging.tally import Tally
from heron.messaging.topics import LIMITS, MODE
from heron.messaging.wire import LimitRequest, ModeName, ModeRequest, Status

T = TypeVar("T")

EVERYONE = "all"
"""Stands for every device, as in `wire.ModeRequest`."""

CALLER = "operator"


def run_mode(argv: Sequence[str]) -> int:
    """Run `heron mode`.

    Raises:
        HeronError: No broker, or nobody of that name answered.
    """
    parser = _parser("heron mode", "Put a device or a coordinator into a mode, and wait for it.")
    parser.add_argument("agent", help="a device, a coordinator, or all: every device")
    parser.add_argument("mode", choices=get_args(ModeName))
    args = parser.parse_args(list(argv))
    request = ModeRequest(agent=args.agent, mode=args.mode, issuer=issuer(), reason=args.reason)
    answers, away = asyncio.run(over_the_broker(args, lambda bus: change_mode(bus, request)))
    lines = [f"{a.agent:<12}{a.mode:<12}{a.detail}" for a in answers]
    lines += [f"{name:<12}not reached: its process is away" for name in away]
    unreached = [{"agent": name, "mode": None, "detail": "not reached"} for name in away]
    _print(args, [*(a.model_dump() for a in answers), *unreached], lines)
    return 0 if not away and all(answer.mode == args.mode for answer in answers) else 1


def run_limits(argv: Sequence[str]) -> int:
    """Run `heron limits`.

    Raises:
        HeronError: No broker, or no DSO answered.
    """
    parser = _parser("heron limits", "Limit what a microgrid exports and imports.")
    parser.add_argument("agent", metavar="MICROGRID")
    for way in ("export", "import"):
        text = f"most that it may {way}, MW; not given: free"
        parser.add_argument(f"--{way}", type=at_least(0.0), metavar="MW", help=text)
    args = parser.parse_args(list(argv))
    request = LimitRequest(
        agent=args.agent,
        p_export_max_mw=args.export,
        p_import_max_mw=getattr(args, "import"),
        issuer=issuer(),
        reason=args.reason,
    )
    answer = asyncio.run(over_the_broker(args, lambda bus: set_limits(bus, request)))
    refused = "refused" in answer.detail
    _print(args, {"done": not refused, "detail": answer.detail}, [answer.detail])
    return 1 if refused else 0


async def change_mode(bus: Bus, request: ModeRequest) -> tuple[list[Status], list[str]]:
    """Ask for a mode.

    Returns:
        The status with which each agent that was meant answers; and the devices that were meant
        and cannot hear it, because their process has died or has no broker.

    Raises:
        HeronError: Nobody of that name is online.
    """

    async def ask(observer: Observer) -> tuple[list[Status], list[str]]:
        before = await observer.roll_call(CALLER)
        away = sorted(
            name
            for name, status in before.items()
            if request.agent == EVERYONE and status.role == "device" and status.online
            if not is_there(name, before)
        )
        meant = sorted(
            name
            for name, status in before.items()
            if is_there(name, before)
            and (name == request.agent or (request.agent == EVERYONE and status.role == "device"))
        )
        if not meant:
            online = ", ".join(
                name for name, s in sorted(before.items()) if s.mode and is_there(name, before)
            )
            raise HeronError(f"{request.agent} is not online: expected one of {online or 'nobody'}")
        if any(before[name].mode is None for name in meant):
            raise HeronError(f"{request.agent} has no mode: expected a device or a coordinator")
        await bus.publish(MODE, request, agent=request.agent)
        await observer.until(
            lambda tally: all(tally.statuses[name] is not before[name] for name in meant)
        )
        return [observer.tally.statuses[name] for name in meant], away

    return await observed(bus, ask)


async def set_limits(bus: Bus, request: LimitRequest) -> Status:
    """Ask for limits; return the status with which the DSO answers.

    Raises:
        HeronError: No DSO is online.
    """

    async def ask(observer: Observer) -> Status:
        before = await observer.roll_call(CALLER)
        operators = [n for n, s in before.items() if s.role == "system" and is_there(n, before)]
        if not operators:
            raise HeronError("no DSO is online")
        about = f"limits of {request.agent}"

        def answer(tally: Tally) -> Status | None:
            for name in operators:
                status = tally.statuses[name]
                if status is not before[name] and status.detail.startswith(about):
                    return status
            return None

        await bus.publish(LIMITS, request, agent=request.agent)
        await observer.until(lambda tally: answer(tally) is not None)
        found = answer(observer.tally)
        assert found is not None
        return found

    return await observed(bus, ask)


async def over_the_broker(args: argparse.Namespace, ask: Callable[[Bus], Awaitable[T]]) -> T:
    """Ask as a client of the broker that the command names.

    Raises:
        HeronError: No broker, or no answer in time.
    """
    from heron.messaging.mqtt import MqttBus

    try:
        async with MqttBus(args.broker, site=args.site) as bus, asyncio.timeout(args.wait):
            return await ask(bus)
    except TimeoutError as error:
        raise HeronError(f"{args.agent}: no answer within {args.wait:g} s") from error


def issuer() -> str:
    """Return who asks."""
    return f"operator:{getpass.getuser()}"


def _print(args: argparse.Namespace, plain: Any, lines: Sequence[str]) -> None:
    print(json.dumps(plain) if args.json else "\n".join(lines))


def _parser(prog: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--reason", default="", help="why, for the log")
    add_broker_options(parser)
    return parser


def add_broker_options(parser: argparse.ArgumentParser) -> None:
    """Add where the agents are, and how long to wait for them."""
    parser.add_argument("--broker", default="mqtt://127.0.0.1:1883", metavar="URL")
    parser.add_argument("--site", default="site", help="name in the topics")
    parser.add_argument(
        "--wait", type=more_than(0.0), default=5.0, metavar="S", help="for the answer"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
