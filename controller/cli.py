"""`heron controller`: the coordinators and the DSO of a setup, on an MQTT broker."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from controller.allocation import LIVES
from controller.clock import calendar_beats
from controller.cycle import ANSWER_S
from controller.minds import PolicyMind, build_minds, require_all
from controller.runtime import PROCESS, ControllerRuntime, birth
from heron.cli.numbers import more_than, whole
from heron.errors import ConfigError, ConfigProblem
from heron.messaging.address import BrokerAddress
from heron.messaging.mqtt import MqttBus
from heron.messaging.presence import require_alone
from heron.messaging.wire import LONGEST_LIFE_S, PlantClock
from heron.powergrid.agents import Scheme, scheme_of
from heron.powergrid.kept_orders import KeptOrders, orders_file
from heron.powergrid.setups import Setup, read_setup

logger = logging.getLogger(__name__)


def run(argv: Sequence[str]) -> int:
    """Run the command. Exit code 0: the plant finished, or it was told to end.

    Everything that can be wrong is checked before the first connection: nothing is sent by a
    controller that cannot decide.
    """
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=options.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    setup = read_setup(options.setup)
    address = BrokerAddress.parse(options.broker)
    options.token, options.tls = _page_access(options)
    part = _part_of(setup, options.agents)
    scheme = scheme_of(options.protocol or setup.config.protocol)
    everyone = build_minds(
        setup,
        options.policy,
        scheme,
        candidates=options.candidate,
        key=options.policy_key,
    )
    minds = [mind for mind in everyone if mind.agent_id in part.agents]
    require_all(minds, len(everyone))
    file = options.orders or orders_file(part.process)
    orders = None if file is None else KeptOrders(file)
    runtime = asyncio.run(_run(options, setup, address, _Site(scheme, minds, part, orders)))
    if options.json:
        print(json.dumps(asdict(runtime.tally)))
    return 0


@dataclass(frozen=True, slots=True)
class _Part:
    """What of the site runs in this process.

    Attributes:
        process: Its name in status messages.
    """

    agents: tuple[str, ...]
    system: bool
    process: str


def _part_of(setup: Setup, agents: str | None) -> _Part:
    """Return what ``--agents`` asks for.

    Raises:
        ConfigError: A name is not of this setup.
    """
    dso, coordinators = setup.config.dso_config.name, setup.config.microgrid_ids
    if agents is None:
        return _Part(coordinators, True, PROCESS)
    names = [name.strip() for name in agents.split(",")]
    known = (dso, *coordinators)
    problems = [
        ConfigProblem("--agents", name, f"some of {', '.join(known)}")
        for name in names
        if name not in known
    ]
    if problems:
        raise ConfigError(problems)
    mine = tuple(name for name in coordinators if name in names)
    return _Part(mine, dso in names, "-".join((PROCESS, *names)))


@dataclass(frozen=True, slots=True)
class _Site:
    """What is to be run."""

    scheme: Scheme
    minds: Sequence[PolicyMind]
    part: _Part
    orders: KeptOrders | None


async def _run(
    options: argparse.Namespace, setup: Setup, address: BrokerAddress, site: _Site
) -> ControllerRuntime:
    status = birth(process=site.part.process)
    mine = [mind.agent_id for mind in site.minds]
    if site.part.system:
        mine.append(setup.config.dso_config.name)
    async with MqttBus(address, site=options.site, status=status, announce=False) as bus:
        await require_alone(bus, site.part.process, mine)
        runtime = ControllerRuntime(
            setup,
            site.minds,
            bus,
            interval_s=options.interval,
            scheme=site.scheme,
            system=site.part.system,
            answer_s=options.answer_wait,
            orders=site.orders,
            beats=_beats(options, setup),
            process=site.part.process,
        )
        running = asyncio.ensure_future(_observed(runtime, setup, bus, options))
        told_to_end = False

        def end() -> None:
            nonlocal told_to_end
            told_to_end = True
            running.cancel()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        try:
            await running
        except asyncio.CancelledError:
            if not told_to_end:
                raise
    return runtime


def _beats(
    options: argparse.Namespace, setup: Setup
) -> AsyncIterator[tuple[str, PlantClock]] | None:
    """Return what makes the coordinators decide; None: the clock of an emulated plant."""
    if options.clock == "plant":
        return None
    return calendar_beats(options.interval or setup.config.step_s)


async def _observed(
    runtime: ControllerRuntime, setup: Setup, bus: MqttBus, options: argparse.Namespace
) -> None:
    """Run the coordinators; beside them, where asked for, the operator's page and a history."""
    if options.http is None and options.history is None:
        await runtime.run()
        return
    from controller.historian import Historian
    from controller.web.server import OperatorPage
    from heron.messaging.observer import Observer
    from heron.messaging.tally import Tally

    tally = Tally()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        beside: list[asyncio.Task[None]] = []
        historian = None
        if options.history is not None:
            historian = await stack.enter_async_context(Historian(options.history))
            beside.append(group.create_task(historian.run()))
        if options.http is not None:
            page = OperatorPage(setup.config, tally, bus, runtime.held, token=options.token)
            serving = page.serve(options.http, options.http_host, options.tls)
            port = await stack.enter_async_context(serving)
            scheme = "http" if options.tls is None else "https"
            logger.info("page url=%s://%s:%d/", scheme, options.http_host, port)
        observer = Observer(bus, tally, historian)
        beside.append(group.create_task(observer.run(asyncio.Event())))
        try:
            await runtime.run()
        finally:
            for task in beside:
                task.cancel()


def _page_access(options: argparse.Namespace) -> tuple[str | None, ssl.SSLContext | None]:
    """Return the token that the operator's page asks for, and what encrypts it, or None.

    Raises:
        ConfigError: A file cannot be used, or one of the two is missing.
    """
    if options.http is None:
        return None, None
    from controller.web.gate import read_token

    token = None if options.http_token_file is None else read_token(options.http_token_file)
    cert, key = options.http_cert, options.http_key
    if cert is None and key is None:
        return token, None
    if cert is None or key is None:
        raise ConfigError([ConfigProblem("--http-cert, --http-key", None, "both, or neither")])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        expected = f"PEM files of a certificate and its key: {error.strerror or error}"
        raise ConfigError([ConfigProblem("--http-cert", str(cert), expected)]) from error
    return token, context


def _interval(text: str) -> float:
    value = more_than(0.0)(text)
    longest = LONGEST_LIFE_S / LIVES
    if value > longest:
        raise argparse.ArgumentTypeError(f"{text}: expected at most {longest:g}: commands expire")
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="heron controller",
        description="Run the microgrids' coordinators and the DSO: telemetry in, set-points out.",
    )
    add = parser.add_argument
    add("--setup", required=True, help="name or path of a setup")
    add("--broker", default="mqtt://127.0.0.1:1883", metavar="URL", help="default %(default)s")
    add("--site", default="site", help="name of the site in the topics (default %(default)s)")
    add(
        "--policy",
        action="append",
        default=[],
        metavar="[AGENT=]SOURCE",
        help="a baseline (none, rule, ...), a folder with AGENT.onnx files, or a file; behind a "
        "voltage shield with shield: or shield-network: before it; may be repeated "
        "(default: the policies that ship with the setup, else rule)",
    )
    add(
        "--candidate",
        action="append",
        default=[],
        metavar="AGENT=FILE|DIR",
        help="a policy that decides in the shadow of a coordinator's file, until `heron policy "
        "promote`; may be repeated",
    )
    add(
        "--policy-key",
        metavar="HEX",
        help="public key (64 hex characters) that must have signed every policy file",
    )
    add(
        "--protocol",
        metavar="P",
        help="how the site coordinates, in place of what the setup says: setpoint, price, p2p, "
        "consensus, system, or one of yours as module:NAME or FILE.py:NAME",
    )
    add(
        "--agents",
        metavar="NAMES",
        help="run only these of the site's coordinators and its DSO, e.g. DSO or MG1,MG2",
    )
    add(
        "--answer-wait",
        type=more_than(0.0),
        default=ANSWER_S,
        metavar="S",
        help="wall seconds that a coordinator waits for the DSO's answer before it serves itself "
        "(default %(default)g)",
    )
    add(
        "--interval",
        type=_interval,
        metavar="S",
        help="plant seconds between two decisions when there is no lock-step "
        "(default: the setup's step_s)",
    )
    add(
        "--clock",
        choices=("plant", "wall"),
        default="plant",
        help="whose clock makes them decide: an emulated plant's (default), or the machine's own, "
        "beside real devices",
    )
    add(
        "--http",
        type=whole(0, 65535),
        metavar="PORT",
        help="serve the operator's page, /state, /healthz and /metrics; 0: a free port",
    )
    add(
        "--http-host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="where (default %(default)s: this machine only); elsewhere needs a token",
    )
    add(
        "--http-token-file",
        type=Path,
        metavar="FILE",
        help="file with the token that the page asks for (at least 16 characters)",
    )
    add("--http-cert", type=Path, metavar="FILE", help="serve https with this certificate (PEM)")
    add("--http-key", type=Path, metavar="FILE", help="and this private key (PEM)")
    add(
        "--orders",
        type=Path,
        metavar="FILE",
        help="keep operators' orders over restarts: modes and limits (default: in STATE_DIRECTORY, "
        "where a service manager gives one)",
    )
    add("--history", type=Path, metavar="FILE", help="keep a history in this SQLite file")
    add("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    add("--json", action="store_true", help="print what was done, at the end")
    return parser
