"""Exports: their tables, plans, states, packages and event logs."""
