"""Counts of what happened, by period: made from events and finished steps, read by pages and `GET /api/stats`."""
