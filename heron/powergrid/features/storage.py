"""State of charge and capacity of what stores energy."""

from __future__ import annotations

from heron.powergrid.features.base import FeatureField, RowFeature


class StorageBlock(RowFeature):
    """State of charge (0-1), capacity and stored energy; the last follows from the first two."""

    visibility = ("owner", "upper_level")
    fields = (
        FeatureField("soc"),
        FeatureField("e_capacity_MWh", "MWh"),
        FeatureField("e_stored_MWh", "MWh"),
    )
    settings = ("ch_eff", "dsc_eff")

    ch_eff: float
    dsc_eff: float

    def __init__(
        self,
        soc: float = 0.5,
        e_capacity_MWh: float = 1.0,
        ch_eff: float = 0.95,
        dsc_eff: float = 0.95,
        e_stored_MWh: float | None = None,
    ) -> None:
        """Set the values; ``e_stored_MWh``, if given, decides over ``soc``."""
        if not e_capacity_MWh > 0.0:
            raise ValueError(f"e_capacity_MWh = {e_capacity_MWh}: expected a positive energy")
        if e_stored_MWh is not None:
            soc = e_stored_MWh / e_capacity_MWh
        self.row = (soc, e_capacity_MWh, soc * e_capacity_MWh)
        self.ch_eff, self.dsc_eff = ch_eff, dsc_eff

    @property
    def soc(self) -> float:
        """State of charge, 0-1."""
        return self.row[0]

    @soc.setter
    def soc(self, soc: float) -> None:
        capacity_mwh = self.row[1]
        self.row = (soc, capacity_mwh, soc * capacity_mwh)

    @property
    def e_capacity_MWh(self) -> float:
        """Energy that it can hold."""
        return self.row[1]

    @e_capacity_MWh.setter
    def e_capacity_MWh(self, value: float) -> None:
        soc = self.row[0]
        self.row = (soc, value, soc * value)

    @property
    def e_stored_MWh(self) -> float:
        """Energy in the store."""
        return self.row[2]

    @e_stored_MWh.setter
    def e_stored_MWh(self, value: float) -> None:
        self.soc = value / self.row[1]
