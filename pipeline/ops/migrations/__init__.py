"""Alembic revisions, and what brings a database to them."""
