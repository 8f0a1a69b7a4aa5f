"""Builds the invoice of a unit, from which all formats are rendered."""
