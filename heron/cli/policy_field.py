"""``heron policy promote|rollback|shadow``: policies of agents that run, over the broker."""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Literal

from heron.cli.operate import add_broker_options, issuer, over_the_broker
from heron.errors import HeronError
from heron.messaging.bus import Bus
from heron.messaging.topics import POLICY, POLICY_REPORT
from heron.messaging.wire import PolicyReport, PolicyRequest

Action = Literal["promote", "roll_back", "report"]

VERBS: dict[str, tuple[Action, str]] = {
    "promote": ("promote", "let an agent's candidate decide, also after a restart"),
    "rollback": ("roll_back", "let the policy decide that did before"),
    "shadow": ("report", "how a candidate differs from the policy that decides"),
}
"""Verb to what is asked for, and its help."""


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs to `heron policy`."""
    for verb, (_, meaning) in VERBS.items():
        parser = verbs.add_parser(verb, help=meaning)
        parser.add_argument("agent", help="a coordinator, or a device that decides by itself")
        parser.add_argument("--reason", default="", help="why, for the log")
        add_broker_options(parser)


def ask(args: argparse.Namespace) -> int:
    """Ask, print the answer, and return 0 only if what was asked for was done.

    Raises:
        HeronError: No broker, or nobody of that name answered.
    """
    action, _ = VERBS[args.verb]
    request = PolicyRequest(
        agent=args.agent,
        action=action,
        issuer=issuer(),
        reason=args.reason,
    )

    report = asyncio.run(over_the_broker(args, lambda bus: answer_to(bus, request)))
    print(json.dumps(report.model_dump()) if args.json else _text(report))
    return 1 if report.refused else 0


async def answer_to(bus: Bus, request: PolicyRequest) -> PolicyReport:
    """Send a request and return the report that answers it.

    Raises:
        HeronError: The bus was closed.
    """
    async with bus.subscribe(POLICY_REPORT, agent=request.agent) as reports:
        await bus.publish(POLICY, request, agent=request.agent)
        async for _, report in reports:
            return report
    raise HeronError("the bus was closed")


def _text(report: PolicyReport) -> str:
    lines = [
        f"{'decides':<12}{report.active or '-'}",
        f"{'candidate':<12}{report.candidate or '-'}",
        f"{'before':<12}{report.former or '-'}",
    ]
    if report.decisions or report.failures:
        lines.append(
            f"{'difference':<12}mean {report.mean_difference:.4f}, largest "
            f"{report.largest_difference:.4f} of [-1, 1] in {report.decisions} decisions; "
            f"{report.failures} failures"
        )
    if report.refused:
        lines.append(f"{'refused':<12}{report.refused}")
    return "\n".join([f"{'agent':<12}{report.agent}", *lines])
