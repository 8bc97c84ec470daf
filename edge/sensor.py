"""Reading a device or meter, and judging what was read."""

from __future__ import annotations

import logging

from edge.timing import PlantTime
from heron.errors import TransportError
from heron.powergrid.link import MeterLink, Quality, Snapshot

logger = logging.getLogger(__name__)


class Sensor:
    """Reads one device or meter, and says how far its values may be trusted.

    Args:
        link: To the device.
        time: Clocks.
        stale_after_s: Wall seconds for which the last good values count as merely stale
            when reads fail; after that they are bad.
    """

    def __init__(self, link: MeterLink, time: PlantTime, stale_after_s: float) -> None:
        self.link = link
        self.error = ""
        self.busy_s = 0.0
        # Nothing is known yet, and that is no reason to fall back before the link is up.
        self.snapshot = Snapshot(link.device_id, {}, Quality.STALE)
        self._time = time
        self._stale_after_s = stale_after_s
        self._good_at_s = time.now()

    async def sense(self) -> Snapshot:
        """Read and decode once. A failure is a result: old values of lower quality."""
        started = self._time.now()
        try:
            snapshot = await self.link.read()
        except TransportError as error:
            if not self.error:
                logger.warning("device_lost device=%s reason=%s", self.link.device_id, error)
            self.error = str(error)
            snapshot = self.snapshot
        else:
            if self.error:
                logger.info("device_recovered device=%s", self.link.device_id)
            self.error = ""
        now = self._time.now()
        if not self.error and snapshot.quality is Quality.GOOD:
            self._good_at_s = now
        elif now - self._good_at_s <= self._stale_after_s:
            snapshot = snapshot.degraded(Quality.STALE)
        else:
            snapshot = snapshot.degraded(Quality.BAD)
        self.snapshot = snapshot
        self.busy_s = now - started
        return snapshot
