"""Coordinators and the system operator as services: cycle, market, page, history."""
