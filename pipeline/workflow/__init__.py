"""Acceptance, the steps of an export, and recovery."""
