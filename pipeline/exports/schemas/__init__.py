"""Schemas of plans and exports, as callers see them."""
