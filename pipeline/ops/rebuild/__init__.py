"""The rebuild of an export's tables from its event log."""
