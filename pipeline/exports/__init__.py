"""The noun: tables, plans, states, packages and the event log of an export."""
