"""Kept for the dashboard. Empty so far."""
