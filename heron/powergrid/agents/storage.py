"""What stores energy: batteries and the cars at charging points."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from heron.policy.codec import ActionMapping
from heron.powergrid.agents.device import DeviceAgent
from heron.powergrid.agents.registry import register_device
from heron.powergrid.device_configs import EVChargerConfig, StorageConfig
from heron.powergrid.features import StatusBlock, StorageBlock, StorageWorth
from heron.powergrid.storage_worth import Store

PRICE_SPREAD = 0.25
"""How much less a full store's energy is worth than an empty one's, as a share of its value."""


class StorageAgent(DeviceAgent):
    """What batteries and cars share: standing alone, they carry out what is in force."""

    config: StorageConfig | EVChargerConfig
    p_mapping: ClassVar[str] = ActionMapping.CENTRED

    def storage_feature(self) -> StorageBlock:
        """Return what is stored as a feature, to append in `set_state`."""
        return StorageBlock(
            soc=self.config.init_soc,
            e_capacity_MWh=self.config.e_capacity_mwh,
            ch_eff=self.config.ch_eff,
            dsc_eff=self.config.dsc_eff,
        )

    @property
    def soc(self) -> float:
        """State of charge as last read; the initial one before the first reading."""
        known = None if self.reading is None else self.reading.soc
        return self.config.init_soc if known is None else known

    def advance(self, dt: float) -> None:
        """Let the set-point in force act on the state of charge for ``dt`` hours."""
        if self.reading is None or self.reading.soc is None or dt <= 0.0:
            return
        result = self.admit(self.setpoint, dt * 3600.0)
        applied = result.applied
        if applied is None:
            return
        store = self.limits.storage
        if store is None:
            return
        soc = store.soc_after(self.reading.soc, applied.p_mw, dt * 3600.0)
        self.take_reading(replace(self.reading, p_mw=applied.p_mw, q_mvar=applied.q_mvar, soc=soc))


@register_device("ESS")
class ESS(StorageAgent):
    """A battery; its action is active power (discharge positive) and, if it can, reactive."""

    config_model = StorageConfig
    config: StorageConfig

    def set_state(self) -> None:
        """Terminals, store, ranges."""
        super().set_state()
        stored = self.storage_feature()
        self.state.features.extend([self.electrical_feature(), stored, self.limits_feature()])
        self._store = Store.of(self.config)
        self.state.features.append(StorageWorth())

    def find_rows(self) -> None:
        """Find the features that readings and prices fill."""
        super().find_rows()
        self._worth = self.find_feature(StorageWorth)

    def take_prices(self, time_s: float, price: float, day: tuple[float, ...]) -> None:
        """Say what its energy is worth by the prices of a day that are known or expected."""
        worth, stored = self._worth, self.terminals.storage
        if worth is not None and stored is not None:
            worth.update(self._store, stored.numbers[2], time_s, price, day)

    def _best_p_mw(self, price: float) -> float:
        """Return the power that pays, given what the store holds and what it is worth.

        The store's energy is worth ``energy_value``, more when it is nearly empty and less when
        it is nearly full. It discharges above that worth and charges below it, each by more than
        the losses and the wear, and with full power a tenth of the worth further on.
        """
        config = self.config
        middle = (config.soc_min + config.soc_max) / 2.0
        place = (self.soc - middle) / (config.soc_max - config.soc_min)
        worth = self.energy_value * (1.0 - PRICE_SPREAD * place)
        band = max(1.0, 0.1 * abs(worth))
        wear = config.degradation_usd_per_mwh
        above = price - (worth / config.dsc_eff + wear)
        below = worth * config.ch_eff - wear - price
        if above > 0.0:
            return config.p_max_mw * min(1.0, above / band)
        if below > 0.0:
            return config.p_min_mw * min(1.0, below / band)
        return 0.0


@register_device("EVCharger")
class EVCharger(StorageAgent):
    """A charging point; its action is active power, charging negative."""

    config_model = EVChargerConfig
    config: EVChargerConfig

    def set_state(self) -> None:
        """Terminals, the car's battery, whether a car is there."""
        super().set_state()
        self.state.features.extend(
            [self.electrical_feature(), self.storage_feature(), StatusBlock()]
        )

    def _best_p_mw(self, price: float) -> float:
        """Charge when it is cheap, and at any price up to the cost of leaving short."""
        config = self.config
        wanted = self.soc < config.soc_target
        worth = self.energy_value if not wanted else config.unserved_usd_per_mwh
        if price < worth * config.ch_eff:
            return self.limits.p_min_mw
        if config.v2g and not wanted and price > self.energy_value / config.dsc_eff:
            return self.limits.p_max_mw
        return 0.0
