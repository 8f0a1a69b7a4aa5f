"""Simulated partners, and the drill."""
