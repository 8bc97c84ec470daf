"""One device's control cycle, told from the wire to the wire.

read -> decode -> observe -> decide -> envelope -> write -> read back -> report

`sense` is the first half (`edge.sensor`, for meters too), `act` the second. In
lock-step all sense before any acts; free-running each device does both in its own slot.
"""

from __future__ import annotations

import asyncio
import logging

from edge.commands import CommandInbox
from edge.decisions import AdmittingAgent, CycleReport, LocalPolicy, Proposal
from edge.fallback import BumplessReturn, FallbackRule
from edge.sensor import Sensor
from edge.timing import PlantTime
from heron.errors import PolicyError, TransportError
from heron.powergrid.link import (
    DeviceLink,
    Quality,
    Snapshot,
    WriteStatus,
)
from heron.powergrid.modes import Changed, Mode, ModeMachine
from heron.powergrid.quantities import DeviceReading, Setpoint

logger = logging.getLogger(__name__)

POLICY_REST_S = 60.0
"""Plant seconds for which a local policy that could not decide is not asked again."""


class DeviceCycle:
    """Decides for one device and writes to it.

    Args:
        link: To the device.
        agent: Holds the features and the envelope.
        modes: Who may do what.
        inbox: What the coordinator says.
        fallback: What to do without it.
        time: Clocks.
        sensor: Reads the device.
        policy: Local policy; None when a coordinator commands.
        first_command_s: Plant seconds to wait for the first command before falling back.
        bumpless: Ramps the return from fallback.
    """

    def __init__(
        self,
        *,
        link: DeviceLink,
        agent: AdmittingAgent,
        modes: ModeMachine,
        inbox: CommandInbox,
        fallback: FallbackRule,
        time: PlantTime,
        sensor: Sensor,
        bumpless: BumplessReturn,
        policy: LocalPolicy | None = None,
        first_command_s: float = 0.0,
    ) -> None:
        self.link = link
        self.modes = modes
        self.inbox = inbox
        self.sensor = sensor
        self.policy = policy
        self._agent = agent
        self._fallback = fallback
        self._time = time
        self._bumpless = bumpless
        self._first_command_by_s = time.elapsed_s() + first_command_s
        self._heard = False
        self._acted_in: Mode | None = None
        self._trouble = ""
        self._policy_rests_until_s = 0.0
        self._reading: DeviceReading | None = None

    @property
    def waits_for_command(self) -> bool:
        """Whether somebody else's decision is due, or would end the fallback."""
        listening = (Mode.CLOSED_LOOP, Mode.ADVISORY, Mode.FALLBACK)
        return self.policy is None and self.modes.mode in listening

    async def sense(self) -> Snapshot:
        """Read, decode, observe."""
        snapshot = await self.sensor.sense()
        self._reading = None
        if snapshot.quality is Quality.GOOD:
            self._reading = snapshot.device_reading()
            self._agent.on_reading(self._reading)
        return snapshot

    async def act(self, dt_s: float) -> CycleReport:
        """Decide, admit, write, read back; ``dt_s`` is plant seconds until the next act."""
        started = self._time.now()
        self._settle_mode()
        proposal = self._decide(self.modes.mode, self._reading)
        mode, before = self.modes.mode, self._acted_in
        self._acted_in = mode
        if mode is Mode.CLOSED_LOOP and before not in {None, mode}:
            self._begin_return()
        elif not self.modes.writes:
            self._bumpless.forget()
        if proposal is None:
            return CycleReport(self.link.device_id, mode, busy_s=self._time.now() - started)
        applied, reasons = self._admitted(proposal.setpoint, mode, dt_s)
        write, error = None, ""
        if self.modes.writes and applied is not None:
            try:
                write = await self.link.write(applied)
                self._bumpless.holds(write.written)
                self._agent.hold(applied)
            except TransportError as failure:
                error = str(failure)
        if write is not None and write.status is WriteStatus.READ_BACK_DIFFERS:
            error = f"asked for {write.written}, reads back {write.read_back}"
        self._say(error or (f"refused: {', '.join(reasons)}" if applied is None else ""))
        busy_s = self._time.now() - started
        return CycleReport(
            self.link.device_id, mode, proposal, applied, reasons, write, error, busy_s
        )

    def _say(self, trouble: str) -> None:
        """Log when the device begins not to get what it is to be told, and when that ends."""
        before, self._trouble = self._trouble, trouble
        if trouble and not before:
            logger.warning("not_written device=%s why=%s", self.link.device_id, trouble)
        elif before and not trouble:
            logger.warning("written_again device=%s after=%s", self.link.device_id, before)

    def _admitted(
        self, wanted: Setpoint, mode: Mode, dt_s: float
    ) -> tuple[Setpoint | None, tuple[str, ...]]:
        """Return what of a proposal may be written, and why it is not all of it."""
        if self.sensor.snapshot.quality is not Quality.GOOD:
            return wanted, ("stale_data",)
        if mode in {Mode.STOPPED, Mode.FALLBACK} and wanted == self._fallback.safe:
            # It is what the device does by itself when nobody drives it: no ramp and no voltage
            # may keep a device that an operator stops at what it was told before.
            return wanted, ()
        if mode is Mode.CLOSED_LOOP:
            wanted = self._bumpless.towards(wanted, dt_s)
        admitted = self._agent.admit(wanted, dt_s)
        return admitted.applied, tuple(str(r) for r in admitted.reasons)

    def _begin_return(self) -> None:
        """Lead back to closed loop from what was written last, or else from what it shows."""
        seen = self._reading
        self._bumpless.start(None if seen is None else Setpoint(seen.p_mw, seen.q_mvar))

    def _settle_mode(self) -> None:
        """Fall back when data or commands fail; return when both are there again."""
        command = None if self.policy is not None else self.inbox.current()
        self._heard = self._heard or command is not None
        rested = self._time.elapsed_s() >= self._policy_rests_until_s
        decider = command is not None or (self.policy is not None and rested)
        good = self.sensor.snapshot.quality is Quality.GOOD
        outcome = None
        if self.modes.mode is Mode.CLOSED_LOOP:
            waiting = not self._heard and self._time.elapsed_s() <= self._first_command_by_s
            if self.sensor.snapshot.quality is Quality.BAD:
                outcome = self.modes.lose(self.sensor.error or "bad data")
            elif not decider and not waiting:
                outcome = self.modes.lose("command expired" if self._heard else "no command")
        elif self.modes.mode is Mode.FALLBACK and good and decider:
            outcome = self.modes.recover()
        if isinstance(outcome, Changed):
            logger.warning(
                "mode device=%s before=%s after=%s reason=%s",
                self.link.device_id,
                outcome.before,
                outcome.after,
                outcome.reason,
            )

    def _decide(self, mode: Mode, reading: DeviceReading | None) -> Proposal | None:
        """Return what is wanted on a reading of good quality; None to leave it as it is."""
        match mode:
            case Mode.MONITOR:
                return None
            case Mode.STOPPED:
                return Proposal(self._fallback.safe, "stop") if self.modes.writes else None
            case Mode.FALLBACK:
                return Proposal(self._fallback.setpoint(reading), "fallback")
            case Mode.CLOSED_LOOP | Mode.ADVISORY:
                if reading is None:
                    return None
                if self.policy is None:
                    command = self.inbox.current()
                    if command is None:
                        return None
                    wanted = Setpoint(command.p_mw, command.q_mvar, command.tap)
                    return Proposal(wanted, "command", command.sequence)
                try:
                    return Proposal(self.policy(reading), "policy")
                except PolicyError as error:
                    self._policy_rests_until_s = self._time.elapsed_s() + POLICY_REST_S
                    self.modes.lose(f"policy: {error}")
                    return Proposal(self._fallback.setpoint(reading), "fallback")

    async def leave(self, timeout_s: float = 1.0) -> bool:
        """Send the safe set-point if this agent drives the device; True if it got there."""
        return not self.modes.writes or await self.release(timeout_s)

    async def release(self, timeout_s: float = 1.0) -> bool:
        """Send the safe set-point, whatever the mode; True if it got there.

        Whoever has driven a device and no longer does leaves it safe: it may have no reversion.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self.link.write(self._fallback.safe)
        except (TransportError, TimeoutError) as error:
            logger.warning("safe_setpoint_not_sent device=%s reason=%s", self.link.device_id, error)
            return False
        return True
