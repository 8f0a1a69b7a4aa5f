"""The drill: a scratch instance is killed at random under load, and a judge decides whether anything was lost or duplicated."""
