"""Accounts, their API keys, and their partners."""
