"""HERON: hierarchical agents for power grids, from training to the device."""

__version__ = "0.1.0"
