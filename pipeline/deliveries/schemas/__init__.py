"""Schemas of messages and deliveries."""
