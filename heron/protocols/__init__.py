"""How agents coordinate: vertical (down the hierarchy) and horizontal (among equals)."""

from heron.protocols.base import Coordination, NoProtocol, Protocol, Signal, run_protocol
from heron.protocols.horizontal import (
    ConsensusProtocol,
    MarketOffer,
    PeerToPeerTradingProtocol,
)
from heron.protocols.vertical import PriceSignalProtocol, SetpointProtocol, SystemProtocol

__all__ = [
    "ConsensusProtocol",
    "Coordination",
    "MarketOffer",
    "NoProtocol",
    "PeerToPeerTradingProtocol",
    "PriceSignalProtocol",
    "Protocol",
    "SetpointProtocol",
    "Signal",
    "SystemProtocol",
    "run_protocol",
]
