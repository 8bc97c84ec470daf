"""The power domain's features: observable parts of an agent's state with their visibility."""

from heron.powergrid.features.base import DomainFeature, FeatureField, Row, RowFeature
from heron.powergrid.features.electrical import (
    ElectricalBasePh,
    PhaseConnection,
    PowerLimits,
    StatusBlock,
    ThermalLoading,
)
from heron.powergrid.features.market import MarketSignal, TimeOfDay
from heron.powergrid.features.network import BusVoltages, LineFlows, NetworkMetrics
from heron.powergrid.features.sources import (
    IEEE1547_CATEGORY_B,
    InverterBasedSource,
    ShuntCapacitorBlock,
    TapChangerPh,
    VoltVarCurve,
)
from heron.powergrid.features.storage import StorageBlock
from heron.powergrid.features.timing import LastAction, Timeliness
from heron.powergrid.features.worth import StorageWorth

__all__ = [
    "IEEE1547_CATEGORY_B",
    "BusVoltages",
    "DomainFeature",
    "ElectricalBasePh",
    "FeatureField",
    "InverterBasedSource",
    "LastAction",
    "LineFlows",
    "MarketSignal",
    "NetworkMetrics",
    "PhaseConnection",
    "PowerLimits",
    "Row",
    "RowFeature",
    "ShuntCapacitorBlock",
    "StatusBlock",
    "StorageBlock",
    "StorageWorth",
    "TapChangerPh",
    "ThermalLoading",
    "TimeOfDay",
    "Timeliness",
    "VoltVarCurve",
]
