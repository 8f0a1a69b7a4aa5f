"""The dated reference data of config/rules."""
