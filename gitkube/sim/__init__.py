"""Kept for the simulation: pretend hosts, network, disk and clock under the real control side. Empty so
far.
"""
