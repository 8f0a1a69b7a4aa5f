"""Simulated partners on loopback for the connection test: each behaves well or shows one fault."""
