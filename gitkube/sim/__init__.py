"""Kept for the simulation: pretend hosts, network, disk and clock. Empty so far."""
