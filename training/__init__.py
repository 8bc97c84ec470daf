"""Environments over the plant, training, evaluation, export, and the timing gap."""
